package sockets

import (
	"errors"
	"log/slog"

	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// stage is what a generation has of sockets of its own beside those that were preserved for it.
type stage struct {
	on     bool         // for all addresses; else for those alone that stageOne was called for
	source *probeSource // owned; nil where on is not set
	// copyCaller copies a descriptor of a process that waits in a notified call: duplicate.
	copyCaller func(pid, fd int) (int, error)

	// Under Tracker.mu:
	mine     map[uint64]ownSocket    // what the generation has bound or was given, by inode
	set      map[uint64]struct{}     // sockets that have SO_REUSEPORT from the supervisor
	taken    map[uint64]struct{}     // sockets from which the supervisor has taken it for a bind that was to fail
	groups   map[sockaddr.Key]staged // with what is preserved there
	switched bool                    // the clients are the generation's
	fetched  map[uint64]int          // duplicates of callers' sockets, see bindAnew; owned
	barred   map[int]bool            // processes that can't be made to send one
	instead  map[sockaddr.Key]string // why an address is planted
	// postponed are sockets that were bound and that are decided about when they listen: see decide.
	postponed map[uint64]sockaddr.Key
	decided   map[uint64]*Socket  // what was planted in place of them
	blocking  map[uint64]struct{} // sockets that were blocking at their listen
	pruned    int                 // how many of mine were left when they were last looked through
}

// staged is a group in which a generation stands behind its predecessor.
type staged struct {
	*reuseport
	before *Tracker
}

func newStage() *stage {
	return &stage{mine: make(map[uint64]ownSocket), postponed: make(map[uint64]sockaddr.Key), decided: make(map[uint64]*Socket), blocking: make(map[uint64]struct{}), set: make(map[uint64]struct{}), taken: make(map[uint64]struct{}),
		fetched: make(map[uint64]int), barred: make(map[int]bool), copyCaller: fdpass.CopySocket,
		groups: make(map[sockaddr.Key]staged), instead: make(map[sockaddr.Key]string)}
}

// Stage gives the generation sockets of its own, which get no clients until Switch. It is for every
// generation, the first too: its sockets must have SO_REUSEPORT when the next one binds. Call it before the
// generation's calls are served.
//
// Every stream and datagram socket of IPv4 and IPv6 gets the option before its bind runs (getsockopt shows
// it), but for those whose bind must fail as it would without it: where somebody outside of huptime has the
// address, and where the generation itself has it already. What can't be staged is planted, see
// PlantedInstead.
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

// standsFor returns the preserved socket in whose place the generation has this one, its own; nil where there
// is none.
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

// stageOne prepares a bind that is about to run, so that the caller's own socket joins the preserved ones of
// its key without getting any clients, or, where there are none, so that a later generation's can. It is not
// ok where the bind is to be answered as ever.
func (t *Tracker) stageOne(b *binding) (ok bool, err error) {
	if !b.key.Shareable() {
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
		list, verdict := t.preserved.stageable(b.key, own, switched, t.inGap && !t.knocks.unexchangeable.Load())
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
		t.log.Debug("staged behind a preserved socket", slog.Int("generation", t.generation),
			slog.String("address", b.key.String()))
	}
	if switched && before.reuseport != nil {
		go t.joinLater(group, own.inode) // ends by itself
	}
	t.pruneOwn()
	return true, nil
}

// stagesAt tells whether the generation has sockets of its own behind preserved ones of the key.
func (t *Tracker) stagesAt(k sockaddr.Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stage.groups[k].reuseport != nil
}

// instead notes, and says once, why an address is planted.
func (t *Tracker) instead(k sockaddr.Key, why error) {
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
