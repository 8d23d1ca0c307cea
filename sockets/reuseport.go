package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
)

// reuseport is the SO_REUSEPORT group of one key, in which each generation has sockets of its own (see Tracker.Stage). The supervisor knows the group
// as the kernel has it, and decides by a program which generation's sockets are chosen.
//
// A program answers with an index, and the kernel tells nobody which socket has which index: so array is kept in step. A socket is
// added at the end, and where one leaves, the last one takes its place (net/core/sock_reuseport.c). An answer beyond the end is as good as no program: any
// socket may be chosen.
type reuseport struct {
	key Key
	all *reuseports

	mu      sync.Mutex
	array   []uint64            // inodes, in the kernel's order
	of      map[uint64]*Tracker // whose a socket is: also of sockets that do not listen yet; those of others than huptime's generations are not in it
	serving *Tracker            // whose sockets get the clients; nil until a second generation comes
	probed  *Tracker            // whose sockets a probe reaches; nil where there is no other
	handles []*Socket           // preserved sockets of the group, by which programs are attached; not owned
	helper  int                 // plainMember's, where a program can't be attached by the group's own sockets; owned; else -1
	apart   uint64              // its inode
	theirs  bool                // the service has attached a program of its own
}

// reuseports are the groups of all generations.
type reuseports struct {
	mu   sync.Mutex
	list map[Key]*reuseport

	noting sync.Mutex // may be locked while a group is
	homes  map[uint64]*reuseport
}

// of returns the group of a key, which it makes if need be.
func (r *reuseports) of(k Key) *reuseport {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.list[k]
	if g == nil {
		if r.list == nil {
			r.list = make(map[Key]*reuseport)
		}
		g = &reuseport{key: k, all: r, of: make(map[uint64]*Tracker), helper: -1}
		r.list[k] = g
	}
	return g
}

func (r *reuseports) all() []*reuseport {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*reuseport, 0, len(r.list))
	for _, g := range r.list {
		list = append(list, g)
	}
	return list
}

// home is the group that a socket is of; nil for those that no generation of huptime's has bound.
func (r *reuseports) home(inode uint64) *reuseport {
	r.noting.Lock()
	defer r.noting.Unlock()
	return r.homes[inode]
}

func (r *reuseports) settleIn(inode uint64, g *reuseport) {
	r.noting.Lock()
	defer r.noting.Unlock()
	if r.homes == nil {
		r.homes = make(map[uint64]*reuseport)
	}
	if g == nil {
		delete(r.homes, inode)
	} else {
		r.homes[inode] = g
	}
}

// forget takes a generation that is over out of all groups. What it has left in the kernel is in its preserved sockets' hands.
func (r *reuseports) forget(t *Tracker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, g := range r.list {
		g.mu.Lock()
		if g.has(t) && g.look() == nil {
			g.forgetGone() // what is left is a stranger's for no moment
		}
		if len(g.of) == 0 && g.helper < 0 {
			delete(r.list, k)
		}
		g.mu.Unlock()
	}
}

// note notes whose a socket is that may join.
func (g *reuseport) note(inode uint64, by *Tracker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.of[inode] = by
	g.all.settleIn(inode, g)
}

// drop forgets a socket. g.mu is held.
func (g *reuseport) drop(inode uint64) {
	delete(g.of, inode)
	g.all.settleIn(inode, nil)
}

// giveWay leaves the group to a program of the service's own.
func (g *reuseport) giveWay() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.theirs = true
}

// look brings array in step with the kernel. g.mu is held.
func (g *reuseport) look() error {
	list, err := listeners(g.key)
	if err != nil {
		return err
	}
	var live []uint64
	for _, s := range list {
		inode := uint64(s.Inode)
		// Others of this address may differ in V6ONLY or their device.
		if home := g.all.home(inode); sameHost(s.Local.Addr(), g.key.Address.AddrPort.Addr()) && (home == nil || home == g) {
			live = append(live, inode)
		}
	}
	// TCP sockets of IPv6 are added to the kernel's chain at its end, all others at its head: see joinOrder.
	if g.key.datagram() || g.key.Address.Family != unix.AF_INET6 {
		slices.Reverse(live)
	}
	for i := 0; i < len(g.array); i++ {
		if !slices.Contains(live, g.array[i]) {
			last := len(g.array) - 1
			g.array[i] = g.array[last]
			g.array = g.array[:last]
			i--
		}
	}
	for _, inode := range live {
		if !slices.Contains(g.array, inode) {
			g.array = append(g.array, inode)
		}
	}
	return nil
}

// listeners lists the sockets at the port of a key that clients come to, in the order of the kernel's chain.
func listeners(k Key) ([]inetSocket, error) {
	diag, err := NewDiag()
	if err != nil {
		return nil, err
	}
	defer diag.Close()
	protocol, states := uint8(unix.IPPROTO_TCP), uint32(1<<tcpListen)
	if k.datagram() {
		protocol, states = unix.IPPROTO_UDP, 1<<tcpClose
	}
	return diag.inetSockets(uint8(k.Address.Family), protocol, states, k.Address.Port())
}

// indexes are the places of the sockets that a generation has in the group, and where it serves those of strangers; none of a nil generation.
// g.mu is held.
func (g *reuseport) indexes(t *Tracker) (list []uint32) {
	for i, inode := range g.array {
		by, ours := g.of[inode]
		if t != nil && (by == t || !ours && inode != g.apart && t == g.serving) {
			list = append(list, uint32(i))
		}
	}
	return list
}

// errGroupGone: no socket is there any more to attach a program by.
var errGroupGone = errors.New("no socket of the group is at hand")

// attach attaches the program for the group as array has it. Where leaving is set a socket is about to leave, and the last one, which takes its
// place, is chosen only if there is no other. g.mu is held.
func (g *reuseport) attach(leaving bool) error {
	if g.theirs {
		return nil
	}
	chosen := g.indexes(g.serving)
	if g.probed.gone() {
		g.probed = nil
	}
	if len(chosen) == 0 {
		return fmt.Errorf("%w: nobody listens on %s", errUnsteered, g.key)
	}
	if last := uint32(len(g.array) - 1); leaving && len(chosen) > 1 && chosen[len(chosen)-1] == last {
		chosen = chosen[:len(chosen)-1]
	}
	var probed []uint32
	port := uint16(0)
	if g.probed != nil && g.probed != g.serving && g.probed.stage.source != nil {
		probed, port = g.indexes(g.probed), g.probed.stage.source.port
	}
	program := withProbe(port, probed, choice(chosen))
	return g.byAny(func(fd int) error { return attach(fd, program) })
}

// withProbe is a program that sends what comes from the probe to other indexes than program does.
func withProbe(port uint16, probed []uint32, program []unix.SockFilter) []unix.SockFilter {
	if len(probed) == 0 || port == 0 {
		return program
	}
	theirs := choice(probed)
	return slices.Concat(probeOrSkip(port, len(theirs)), theirs, program)
}

// byAny calls attach with a socket of the group. g.mu is held.
func (g *reuseport) byAny(attach func(fd int) error) error {
	if g.helper >= 0 {
		return attach(g.helper)
	}
	failed := errGroupGone
	for _, s := range g.handles {
		fd, ok := s.copy()
		if !ok {
			continue
		}
		failed = attach(fd)
		unix.Close(fd)
		if errors.Is(failed, unix.EOPNOTSUPP) || errors.Is(failed, unix.EINVAL) {
			// A multipath socket takes none, and one that was bound without SO_REUSEPORT is in no group until a second one comes.
			if failed = g.help(s); failed == nil {
				return attach(g.helper)
			}
		}
		if failed == nil {
			return nil
		}
	}
	return failed
}

// help adds a socket of the supervisor's own. g.mu is held.
func (g *reuseport) help(s *Socket) error {
	if s.Key.datagram() {
		return fmt.Errorf("%w: %w", errUnsteered, unix.EINVAL) // what came to it would be lost
	}
	fd, err := plainMember(s)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("fstat", err)
	}
	g.helper, g.apart = fd, st.Ino
	g.all.settleIn(st.Ino, g)
	return g.look()
}

// even tells whether all who are in the group may be chosen. g.mu is held.
func (g *reuseport) even() bool {
	for _, inode := range g.array {
		if by, ours := g.of[inode]; ours && by != g.serving {
			return false
		}
	}
	return true
}

// refresh looks, and attaches what that asks for.
func (g *reuseport) refresh() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refreshed()
}

func (g *reuseport) refreshed() error {
	if err := g.look(); err != nil {
		return err
	}
	return g.attach(false)
}

// detach lets the kernel choose by itself. g.mu is held.
func (g *reuseport) detach() {
	if !g.theirs {
		_ = g.byAny(func(fd int) error {
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0) != nil {
				return attach(fd, []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)}})
			}
			return nil
		})
	}
	g.dismiss()
}

// dismiss closes the supervisor's own socket. g.mu is held.
func (g *reuseport) dismiss() {
	if g.helper < 0 {
		return
	}
	unix.Close(g.helper)
	g.all.settleIn(g.apart, nil)
	if i := slices.Index(g.array, g.apart); i >= 0 {
		last := len(g.array) - 1
		g.array[i] = g.array[last]
		g.array = g.array[:last]
	}
	g.helper, g.apart = -1, 0
}

// settle is called when what the sockets were preserved for is over, and the generation that had them, unless it serves on. It closes the supervisor's
// duplicates, and with them the sockets, if nobody else has them. The program stays only where yet another generation is in the group.
func (g *reuseport) settle(sockets []*Socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.look()
	if slices.ContainsFunc(sockets, func(s *Socket) bool { return g.of[s.Inode] == g.serving }) {
		// The old generation serves on, and nothing leaves the group but what one that has failed has there.
		g.probed = nil
		g.finishBy(sockets[0].twin())
		g.release(sockets)
		return
	}
	held := g.ofServing()
	if held != nil {
		g.handles = append(g.handles, held)
	}
	for _, s := range sockets {
		_ = g.attach(true)
		g.release([]*Socket{s})
		_ = g.look()
	}
	g.finishBy(held)
}

// finishBy is finish now, if possible, or in a moment: a process closes its descriptors after it was heard that it ends (do_exit in
// kernel/exit.c). It takes ownership of held, a socket of the generation that serves; nil where there is none. g.mu is held.
func (g *reuseport) finishBy(held *Socket) {
	if held != nil && !slices.Contains(g.handles, held) {
		g.handles = append(g.handles, held)
	}
	g.finish()
	if held == nil {
		g.dismiss()
		return
	}
	if !g.even() {
		var leaving []uint64
		for _, inode := range g.array {
			if by, ours := g.of[inode]; ours && by != g.serving {
				leaving = append(leaving, inode)
			}
		}
		go g.finishLater(held, leaving)
		return
	}
	g.release([]*Socket{held})
	g.forgetGone()
}

// has tells whether a socket of the generation's is known. g.mu is held.
func (g *reuseport) has(t *Tracker) bool {
	for _, by := range g.of {
		if by == t {
			return true
		}
	}
	return false
}

// twin is another duplicate of a preserved socket, which the caller owns; nil where it is closed.
func (s *Socket) twin() *Socket {
	fd, ok := s.copy()
	if !ok {
		return nil
	}
	return &Socket{Key: s.Key, Inode: s.Inode, fd: fd}
}

// finishLater is finish when sockets of those who are over have left the group. It owns held, a socket of the generation that serves, and ends by itself.
func (g *reuseport) finishLater(held *Socket, leaving []uint64) {
	const limit = 10 * time.Second
	wait := time.Millisecond
	for began := time.Now(); time.Since(began) < limit; wait = min(2*wait, longestPoll) {
		time.Sleep(wait)
		g.mu.Lock()
		before := len(g.array)
		done := g.look() == nil && !slices.ContainsFunc(leaving, func(inode uint64) bool { return slices.Contains(g.array, inode) })
		if done || len(g.array) != before {
			g.finish()
		}
		g.mu.Unlock()
		if done {
			break
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release([]*Socket{held})
	g.forgetGone()
}

// forgetGone forgets the sockets of generations that are over. g.mu is held.
func (g *reuseport) forgetGone() {
	for inode, by := range g.of {
		if by.gone() && !slices.Contains(g.array, inode) && !slices.ContainsFunc(g.handles, func(s *Socket) bool { return s.Inode == inode }) {
			g.drop(inode)
		}
	}
}

// release closes preserved sockets. g.mu is held.
func (g *reuseport) release(sockets []*Socket) {
	for _, s := range sockets {
		s.undeepen()
		s.close()
	}
	g.disown(sockets)
}

// disown attaches no more programs by these. g.mu is held.
func (g *reuseport) disown(sockets []*Socket) {
	g.handles = slices.DeleteFunc(g.handles, func(s *Socket) bool { return slices.Contains(sockets, s) })
}

// finish ends the steering, or brings it in step. g.mu is held.
func (g *reuseport) finish() {
	if g.even() {
		g.detach()
	} else {
		_ = g.attach(false)
	}
}

// ofServing copies a socket of the generation that serves, which the caller owns. g.mu is held.
func (g *reuseport) ofServing() *Socket {
	if g.serving == nil {
		return nil
	}
	wanted := make(map[uint64]struct{})
	for inode, by := range g.of {
		if by == g.serving && slices.Contains(g.array, inode) {
			wanted[inode] = struct{}{}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	holders, _ := proc.Holders(g.serving.pids(), wanted)
	for inode, list := range holders {
		for _, h := range list {
			if fd, err := g.serving.copyOf(h.PID, h.FD); err == nil {
				return &Socket{Key: g.key, Inode: inode, fd: fd}
			}
		}
	}
	return nil
}

// outsiders tells whether a socket that is none of huptime's generations' has an address that overlaps the key.
func (r *reuseports) outsiders(k Key, ours func(inode uint64) bool) (bool, error) {
	for _, family := range []uint16{unix.AF_INET, unix.AF_INET6} {
		at := k
		at.Address.Family = family
		list, err := listeners(at)
		if err != nil {
			return false, err
		}
		for _, s := range list {
			// V6ONLY can't be seen; that of the caller's own stands for both, so a socket that leaves IPv4 to others does not count.
			other := Key{NetNS: k.NetNS, Type: k.Type, V6Only: k.V6Only, Address: Address{Family: family, AddrPort: s.Local}}
			if other.overlaps(k) && !ours(uint64(s.Inode)) && r.home(uint64(s.Inode)) == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// sameHost tells whether two addresses are the same but for their zones.
func sameHost(a, b netip.Addr) bool { return a.WithZone("") == b.WithZone("") }
