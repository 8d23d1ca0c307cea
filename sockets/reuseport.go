package sockets

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// reuseport is the SO_REUSEPORT group of one key, in which each generation has sockets of its own (see
// Tracker.Stage). The supervisor knows the group as the kernel has it, and decides by a program which
// generation's sockets are chosen.
//
// A program answers with an index, and the kernel tells nobody which socket has which index: so array is kept
// in step. A socket is added at the end, and where one leaves, the last one takes its place
// (net/core/sock_reuseport.c). An answer beyond the end is as good as no program: any socket may be chosen.
type reuseport struct {
	key sockaddr.Key
	all *reuseports

	mu    sync.Mutex
	array []uint64 // inodes, in the kernel's order
	// of tells whose a socket is, also one that does not listen yet. Those of others than huptime's
	// generations are not in it.

	of      map[uint64]*Tracker
	serving *Tracker  // whose sockets get the clients; nil until a second generation comes
	probed  *Tracker  // whose sockets a probe reaches; nil where there is no other
	handles []*Socket // preserved sockets of the group, by which programs are attached; not owned
	// helper is plainMember's, where no program can be attached by the group's own sockets; owned; else -1.
	helper  int
	apart   uint64   // its inode
	buffers []buffer // see settle
	theirs  bool     // the service has attached a program of its own
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
		home := g.all.home(inode)
		if (home == nil || home == g) && sockaddr.SameHost(s.Local.Addr(), g.key.Address.AddrPort.Addr()) {
			live = append(live, inode)
		}
	}
	// TCP sockets of IPv6 are added to the kernel's chain at its end, all others at its head: see joinOrder.
	if g.key.IsDatagram() || g.key.Address.Family != unix.AF_INET6 {
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
func listeners(k sockaddr.Key) ([]sockdiag.InetSocket, error) {
	diag, err := sockdiag.Open()
	if err != nil {
		return nil, err
	}
	defer diag.Close()
	protocol, states := uint8(unix.IPPROTO_TCP), uint32(1<<sockdiag.TCPListen)
	if k.IsDatagram() {
		protocol, states = unix.IPPROTO_UDP, 1<<sockdiag.TCPClose
	}
	return diag.InetSockets(uint8(k.Address.Family), protocol, states, k.Address.Port())
}

// indexes are the places of the sockets that a generation has in the group, and where it serves those of
// strangers; none of a nil generation. g.mu is held.
func (g *reuseport) indexes(t *Tracker) (list []uint32) {
	for i, inode := range g.array {
		by, ours := g.of[inode]
		if t != nil && (by == t || !ours && inode != g.apart && !g.isBuffer(inode) && t == g.serving) {
			list = append(list, uint32(i))
		}
	}
	return list
}

// errGroupGone: no socket is there any more to attach a program by.
var errGroupGone = errors.New("no socket of the group is at hand")

// attach attaches the program for the group as array has it. Where leaving is set a socket is about to leave,
// and the last one, which takes its place, is chosen only if there is no other. g.mu is held.
func (g *reuseport) attach(leaving bool) error {
	if g.theirs {
		return nil
	}
	program, err := g.program(leaving)
	if err != nil {
		return err
	}
	return g.byAny(func(fd int) error { return attach(fd, program) })
}

// program is that for the group as array has it; leaving is attach's. g.mu is held.
func (g *reuseport) program(leaving bool) ([]unix.SockFilter, error) {
	chosen := g.indexes(g.serving)
	if g.probed.gone() {
		g.probed = nil
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%w: nobody listens on %s", errUnsteered, g.key)
	}
	if last := uint32(len(g.array) - 1); leaving && len(chosen) > 1 && chosen[len(chosen)-1] == last {
		chosen = chosen[:len(chosen)-1]
	}
	var probed []uint32
	var ports []uint16
	if g.probed != nil && g.probed != g.serving && g.probed.stage.source != nil {
		probed, ports = g.indexes(g.probed), g.probed.stage.source.ports()
	}
	return withProbe(ports, probed, choice(chosen)), nil
}

// withProbe is a program that sends what comes from the ports of probes to other indexes than program does.
func withProbe(ports []uint16, probed []uint32, program []unix.SockFilter) []unix.SockFilter {
	if len(probed) == 0 || len(ports) == 0 {
		return program
	}
	theirs := choice(probed)
	return slices.Concat(probeOrSkip(ports, len(theirs)), theirs, program)
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
			// A multipath socket takes none, and one that was bound without SO_REUSEPORT is in no group until
			// a second one comes.
			failed = g.help(s, attach)
		}
		if failed == nil {
			return nil
		}
	}
	return failed
}

// help adds a socket of the supervisor's own. g.mu is held.
func (g *reuseport) help(s *Socket, attach func(fd int) error) error {
	if s.Key.IsDatagram() {
		return fmt.Errorf("%w: %w", errUnsteered, unix.EINVAL) // what came to it would be lost
	}
	fd, err := plainMember(s, attach)
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

func (g *reuseport) refreshed() error {
	if err := g.look(); err != nil {
		return err
	}
	return g.attach(false)
}

// detach lets the kernel choose by itself. g.mu is held.
func (g *reuseport) detach() {
	g.endBuffers()
	if g.helper >= 0 {
		// Without a program it might be chosen. Once it has gone every answer is a good one: those that are left are all of the serving
		// generation's.
		_ = g.attach(false)
		g.dismiss()
		return
	}
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
	g.endBuffers()
	if g.helper < 0 {
		return
	}
	unix.Close(g.helper)
	g.left(g.apart)
	g.helper, g.apart = -1, 0
}

// left notes that a socket of the supervisor's own has left the group. g.mu is held.
func (g *reuseport) left(inode uint64) {
	g.all.settleIn(inode, nil)
	if i := slices.Index(g.array, inode); i >= 0 {
		last := len(g.array) - 1
		g.array[i] = g.array[last]
		g.array = g.array[:last]
	}
}

// buffer is a further socket of the supervisor's own in a group. There are as many of them at its end as others leave, so that they take their places,
// and the program holds.
type buffer struct {
	fd    int
	inode uint64
}

// addBuffer adds it, where a program can be attached by the helper alone. g.mu is held.
func (g *reuseport) addBuffer(like *Socket) {
	if g.helper < 0 {
		return
	}
	fd, err := plainMember(like, func(int) error { return nil }) // the program is there
	if err != nil {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		unix.Close(fd)
		return
	}
	g.buffers = append(g.buffers, buffer{fd, st.Ino})
	g.all.settleIn(st.Ino, g)
	g.array = append(g.array, st.Ino)
}

func (g *reuseport) isBuffer(inode uint64) bool {
	return slices.ContainsFunc(g.buffers, func(b buffer) bool { return b.inode == inode })
}

// endBuffers takes them out again. g.mu is held.
func (g *reuseport) endBuffers() {
	for _, b := range g.buffers {
		g.left(b.inode)
		program, err := g.program(false)
		// Raw, and with the program at hand: the last one changes its place, and until that is told a client may come to another buffer or to the
		// helper, and wait a second.
		unix.RawSyscall(unix.SYS_CLOSE, uintptr(b.fd), 0, 0)
		if err == nil && g.helper >= 0 && !g.theirs {
			_ = attach(g.helper, program)
		}
	}
	g.buffers = nil
}
