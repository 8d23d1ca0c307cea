package sockets

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// ownSocket is a socket at an address that the generation has bound.
type ownSocket struct {
	key     sockaddr.Key
	asked   bool // the service has set SO_REUSEPORT
	planted bool // it is a preserved one
}

// callersSocket is the socket that is about to be bound.
type callersSocket struct {
	inode  uint64
	uid    uint32
	shares bool // it has SO_REUSEPORT
	reuses bool // it has SO_REUSEADDR
}

func (b *binding) socketOfCaller() (c callersSocket, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(b.own, &st); err != nil {
		return c, os.NewSyscallError("fstat", err)
	}
	reuse, err := unix.GetsockoptInt(b.own, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	c = callersSocket{inode: st.Ino, uid: st.Uid, shares: sharesPort(b.own), reuses: reuse != 0}
	return c, os.NewSyscallError("getsockopt", err)
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

// take takes the service's own option for a bind that would fail if the socket in its way did not have it
// from the supervisor.
func (t *Tracker) take(b *binding, own callersSocket, asked bool) error {
	if !asked || !own.shares {
		return nil
	}
	t.mu.Lock()
	t.stage.taken[own.inode] = struct{}{}
	t.mu.Unlock()
	return b.setShared(0)
}

// alreadyHas tells whether the generation has a socket in the way of this bind, which then has to fail:
// services look for a free port so, or find out that they run already. Where the service has set SO_REUSEPORT
// on both it means to share.
func (t *Tracker) alreadyHas(k sockaddr.Key, inode uint64, asked bool) bool {
	inWay := make(map[uint64]struct{})
	t.mu.Lock()
	for other, own := range t.stage.mine {
		if other != inode && own.key.Overlaps(k) && !(asked && own.asked) {
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
	if !b.key.Shareable() {
		return
	}
	if g := t.knocks.ports.home(s.Inode); g != nil {
		g.note(s.Inode, t)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stage.mine[s.Inode] = ownSocket{key: b.key, planted: true, asked: b.own >= 0 && sharesPort(b.own)}
}

// pruneOwn forgets own sockets that nobody has any more, when there are many: a program may bind, and close,
// again and again.
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
