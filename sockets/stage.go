package sockets

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
)

// stage is what a generation has of sockets of its own beside those that were preserved for it.
type stage struct {
	on     bool         // for all addresses; else for those alone that stageOne was called for
	source *probeSource // owned; nil where on is not set
	// copyCaller copies a descriptor of a process that waits in a notified call: duplicate.
	copyCaller func(pid, fd int) (int, error)

	// Under Tracker.mu:
	mine     map[uint64]ownSocket // what the generation has bound or was given, by inode
	set      map[uint64]struct{}  // sockets that have SO_REUSEPORT from the supervisor
	taken    map[uint64]struct{}  // sockets from which the supervisor has taken it for a bind that was to fail
	groups   map[Key]staged       // with what is preserved there
	switched bool                 // the clients are the generation's
	fetched  map[uint64]int       // duplicates of callers' sockets, see bindAnew; owned
	barred   map[int]bool         // processes that can't be made to send one
	instead  map[Key]string       // why an address is planted
	pruned   int                  // how many of mine were left when they were last looked through
}

// ownSocket is a socket at an address that the generation has bound.
type ownSocket struct {
	key     Key
	asked   bool // the service has set SO_REUSEPORT
	planted bool // it is a preserved one
}

// staged is a group in which a generation stands behind its predecessor.
type staged struct {
	*reuseport
	before *Tracker
}

func newStage() *stage {
	return &stage{mine: make(map[uint64]ownSocket), set: make(map[uint64]struct{}), taken: make(map[uint64]struct{}),
		fetched: make(map[uint64]int), barred: make(map[int]bool), copyCaller: duplicate,
		groups: make(map[Key]staged), instead: make(map[Key]string)}
}

// Stage gives the generation sockets of its own, which get no clients until Switch. It is for every generation, the first too: its sockets must
// have SO_REUSEPORT when the next one binds. Call it before the generation's calls are served.
//
// Every stream and datagram socket of IPv4 and IPv6 gets the option before its bind runs (getsockopt shows it), but for those whose bind must fail as it
// would without it: where somebody outside of huptime has the address, and where the generation itself has it already. What can't be
// staged is planted, see PlantedInstead.
func (t *Tracker) Stage() error {
	source, err := newProbeSource()
	if err != nil {
		return err
	}
	t.stage.on, t.stage.source = true, source
	return nil
}

// Staged lists the preserved sockets behind which the generation has sockets of its own. They count as claimed.
func (t *Tracker) Staged() (list []*Socket) {
	if t.preserved == nil {
		return nil
	}
	t.preserved.mu.Lock()
	defer t.preserved.mu.Unlock()
	for _, s := range t.preserved.sockets {
		if s.staged != nil {
			list = append(list, s)
		}
	}
	return list
}

// PlantedInstead tells of the addresses that could not be staged, and why.
func (t *Tracker) PlantedInstead() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make(map[string]string, len(t.stage.instead))
	for k, why := range t.stage.instead {
		list[k.String()] = why
	}
	return list
}

// standsFor returns the preserved socket in whose place the generation has this one, its own; nil where there is none.
func (t *Tracker) standsFor(inode uint64) *Socket {
	t.mu.Lock()
	own, ok := t.stage.mine[inode]
	t.mu.Unlock()
	if !ok || own.planted {
		return nil
	}
	for _, s := range t.Staged() {
		if s.Key == own.key {
			return s
		}
	}
	return nil
}

// standsIn tells whether the generation listens by a socket of its own on the address of a preserved one.
func (t *Tracker) standsIn(s *Socket) bool {
	t.preserved.mu.Lock()
	k, staged := s.Key, s.staged != nil
	t.preserved.mu.Unlock()
	if !staged {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode := range t.listening {
		if own, ok := t.stage.mine[inode]; ok && !own.planted && own.key == k {
			return true
		}
	}
	return false
}

// stageOne prepares a bind that is about to run, so that the caller's own socket joins the preserved ones of its key without getting any
// clients, or, where there are none, so that a later generation's can. It is not ok where the bind is to be answered as ever.
func (t *Tracker) stageOne(b *binding) (ok bool, err error) {
	if !b.key.stageable() {
		return false, nil
	}
	if b.own < 0 {
		t.instead(b.key, errors.New("the process may not be looked into"))
		return false, nil
	}
	own, err := b.socketOfCaller()
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	_, set := t.stage.set[own.inode]
	_, taken := t.stage.taken[own.inode]
	before, switched := t.stage.groups[b.key], t.stage.switched
	t.mu.Unlock()
	asked := own.shares && !set || taken
	if t.alreadyHas(b.key, own.inode, asked) {
		return false, errors.Join(t.withdraw(b, own), t.take(b, own, asked))
	}
	var behind []*Socket
	if t.preserved != nil {
		list, verdict := t.preserved.stageable(b.key, own.uid, switched)
		if verdict != nil {
			t.instead(b.key, verdict)
			return false, t.withdraw(b, own)
		}
		behind = list
	}
	if len(behind) == 0 && !asked {
		outside, err := t.knocks.ports.outsiders(b.key, t.isOurs)
		if err != nil || outside {
			return false, errors.Join(err, t.withdraw(b, own))
		}
	}
	group := t.knocks.ports.of(b.key)
	if len(behind) > 0 && before.reuseport == nil {
		if err := group.confine(behind, t); err != nil {
			t.instead(b.key, err)
			return false, t.withdraw(b, own)
		}
	}
	if !own.shares {
		if err := b.setShared(1); err != nil {
			return false, err
		}
	}
	group.note(own.inode, t)
	t.mu.Lock()
	delete(t.stage.taken, own.inode)
	if !asked {
		t.stage.set[own.inode] = struct{}{}
	}
	t.stage.mine[own.inode] = ownSocket{key: b.key, asked: asked}
	if len(behind) > 0 {
		t.stage.groups[b.key] = staged{group, behind[0].owner}
	}
	t.mu.Unlock()
	if len(behind) > 0 {
		t.preserved.stage(behind, group, t)
		t.log.Debug("staged behind a preserved socket", slog.Int("generation", t.generation), slog.String("address", b.key.String()))
	}
	if switched && before.reuseport != nil {
		go t.joinLater(group, own.inode) // ends by itself
	}
	t.pruneOwn()
	return true, nil
}

// stageable tells whether sockets of the key can share their address. What is sent to a group of hosts comes to every one that has joined it,
// in all generations.
func (k Key) stageable() bool {
	ip := k.Address.AddrPort.Addr()
	inet := k.Address.Family == unix.AF_INET || k.Address.Family == unix.AF_INET6
	return inet && k.Address.Port() != 0 && !ip.Unmap().IsMulticast() && (k.isTCP() || k.datagram())
}

// callersSocket is the socket that is about to be bound.
type callersSocket struct {
	inode  uint64
	uid    uint32
	shares bool // it has SO_REUSEPORT
}

func (b *binding) socketOfCaller() (c callersSocket, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(b.own, &st); err != nil {
		return c, os.NewSyscallError("fstat", err)
	}
	return callersSocket{inode: st.Ino, uid: st.Uid, shares: sharesPort(b.own)}, nil
}

// setShared sets SO_REUSEPORT of the caller's socket.
func (b *binding) setShared(on int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(b.own, unix.SOL_SOCKET, unix.SO_REUSEPORT, on))
}

// withdraw takes the option back where it is the supervisor's: the socket was to be bound elsewhere before.
func (t *Tracker) withdraw(b *binding, own callersSocket) error {
	t.mu.Lock()
	_, set := t.stage.set[own.inode]
	delete(t.stage.set, own.inode)
	t.mu.Unlock()
	if !set {
		return nil
	}
	return b.setShared(0)
}

// take takes the service's own option for a bind that would fail if the socket in its way did not have it from the supervisor.
func (t *Tracker) take(b *binding, own callersSocket, asked bool) error {
	if !asked || !own.shares {
		return nil
	}
	t.mu.Lock()
	t.stage.taken[own.inode] = struct{}{}
	t.mu.Unlock()
	return b.setShared(0)
}

// alreadyHas tells whether the generation has a socket in the way of this bind, which then has to fail: services look for a free port so, or find out that they
// run already. Where the service has set SO_REUSEPORT on both it means to share.
func (t *Tracker) alreadyHas(k Key, inode uint64, asked bool) bool {
	inWay := make(map[uint64]struct{})
	t.mu.Lock()
	for other, own := range t.stage.mine {
		if other != inode && own.key.overlaps(k) && !(asked && own.asked) {
			inWay[other] = struct{}{}
		}
	}
	t.mu.Unlock()
	if len(inWay) == 0 {
		return false
	}
	holders, opaque := proc.Holders(t.pids(), inWay)
	for other := range inWay {
		if len(holders[other]) == 0 && len(opaque) == 0 {
			t.mu.Lock()
			delete(t.stage.mine, other)
			t.mu.Unlock()
			delete(inWay, other)
		}
	}
	return len(inWay) > 0
}

// nowHas notes that a preserved socket is the generation's.
func (t *Tracker) nowHas(b *binding, s *Socket) {
	if !b.key.stageable() {
		return
	}
	if g := t.knocks.ports.home(s.Inode); g != nil {
		g.note(s.Inode, t)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stage.mine[s.Inode] = ownSocket{key: b.key, planted: true, asked: b.own >= 0 && sharesPort(b.own)}
}

// pruneOwn forgets own sockets that nobody has any more, when there are many: a program may bind, and close, again and again.
func (t *Tracker) pruneOwn() {
	const many = 256
	t.mu.Lock()
	noted := make(map[uint64]struct{}, len(t.stage.mine))
	if len(t.stage.mine) >= max(many, t.stage.pruned*2) {
		for inode := range t.stage.mine {
			noted[inode] = struct{}{}
		}
	}
	t.mu.Unlock()
	if len(noted) == 0 {
		return
	}
	holders, opaque := proc.Holders(t.pids(), noted)
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode := range noted {
		if len(holders[inode]) == 0 && len(opaque) == 0 {
			delete(t.stage.mine, inode)
			delete(t.stage.set, inode)
		}
	}
	t.stage.pruned = len(t.stage.mine)
}

// isOurs tells whether a socket is one that the generation, or its predecessor, is known to listen on.
func (t *Tracker) isOurs(inode uint64) bool {
	t.mu.Lock()
	_, ours := t.listening[inode]
	t.mu.Unlock()
	if ours || t.preserved == nil {
		return ours
	}
	return slices.ContainsFunc(t.preserved.Sockets(), func(s *Socket) bool { return s.Inode == inode })
}

// instead notes, and says once, why an address is planted.
func (t *Tracker) instead(k Key, why error) {
	if errors.Is(why, errNotNow) {
		return
	}
	t.mu.Lock()
	_, known := t.stage.instead[k]
	t.stage.instead[k] = why.Error()
	t.mu.Unlock()
	if !known {
		t.log.Warn("an address can't be staged: both generations share its socket", slog.Int("generation", t.generation),
			slog.String("address", k.String()), slog.String("why", why.Error()))
	}
}

// errNotNow: there is no reason to stage this bind, and none to speak of it.
var errNotNow = errors.New("nothing to stage")

// stageable lists the preserved sockets that a socket of the key, made by a user, may stand behind; none where there is no such address. The error says
// why it may not be bound beside them.
func (p *Preserved) stageable(k Key, uid uint32, switched bool) (list []*Socket, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	overlaps := false
	for _, s := range p.sockets {
		if s.fd < 0 {
			continue
		}
		if !s.answers(k) {
			overlaps = overlaps || s.Key.overlaps(k)
			continue
		}
		if err := s.stageable(k, uid); err != nil {
			return nil, err
		}
		if p.abandoned || s.claimed || switched && s.staged == nil {
			return nil, errNotNow
		}
		list = append(list, s)
	}
	if len(list) == 0 && overlaps {
		return nil, errNotNow // the bind has to fail, see inTheWay
	}
	return list, nil
}

func (s *Socket) stageable(k Key, uid uint32) error {
	switch {
	case s.standing:
		return errors.New("huptime holds the socket (--listen)")
	case s.steered:
		return errors.New("the service has attached a program of its own to the SO_REUSEPORT group")
	case s.owner == nil || s.Key != k:
		return errNotNow
	}
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Uid != uid {
		return fmt.Errorf("user %d made the old socket and user %d the new one", st.Uid, uid)
	}
	if k.datagram() && !sharesPort(s.fd) {
		return errors.New("the old socket was bound without SO_REUSEPORT: datagrams could be lost")
	}
	return nil
}

// stage notes that the generation has sockets of its own in the group of these.
func (p *Preserved) stage(list []*Socket, g *reuseport, by *Tracker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stagedBy = by
	for _, s := range list {
		s.staged = g
	}
}

// confine keeps the clients to the sockets that are in the group, of which these are preserved, before those of a new generation come.
func (g *reuseport) confine(old []*Socket, by *Tracker) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var late []*Socket
	for _, s := range old {
		if !sharesPort(s.fd) { // it may also be set when the socket listens (seen on 6.18)
			if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
			late = append(late, s)
		}
		g.of[s.Inode] = s.owner
		g.all.settleIn(s.Inode, g)
		if !slices.Contains(g.handles, s) {
			g.handles = append(g.handles, s)
		}
	}
	g.serving, g.probed = old[0].owner, by
	err := g.refreshed()
	if err == nil {
		return nil
	}
	g.probed = nil
	g.dismiss()
	g.handles = slices.DeleteFunc(g.handles, func(s *Socket) bool { return slices.Contains(old, s) })
	for _, s := range late {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
	}
	return err
}
