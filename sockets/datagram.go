package sockets

import (
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// A datagram socket listens from its bind on: there is no listen. But clients bind as well, and some programs (resolvers) thousands of
// sockets a second, for one question each. So what is noted at a bind is looked through now and then for what is closed again.

// minSweep is the least number of noted datagram sockets that are looked through. It is below maxBound.
const minSweep = 64

// mayBeDatagram tells by the name of a socket's protocol whether it may be a datagram socket; see kinds. Unix seqpacket sockets have the
// name too, and on kernels before 5.15 all unix sockets: what is no datagram socket and never listens is not collected.
func mayBeDatagram(protocol string) bool {
	return protocol == "UDP" || protocol == "UDPv6" || protocol == "UNIX"
}

// noteDatagram notes the socket at the caller's descriptor if it is a datagram socket: its own, which is about to be bound, or the one
// that was just planted in its place. Whether the bind succeeds is seen when the socket is collected.
func (t *Tracker) noteDatagram(r *notify.Request) {
	protocol, err := proc.SocketProtocol(r.TID, r.FD())
	if err != nil || !mayBeDatagram(protocol) {
		return
	}
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok || !r.Valid() {
		return
	}
	t.mu.Lock()
	few := t.noted < minSweep // or a resolver would never be ready
	t.mu.Unlock()
	t.note(r, inode, few)
	t.mu.Lock()
	t.datagrams[inode] = struct{}{}
	sweep := len(t.datagrams) >= t.sweepAt
	if sweep {
		t.sweepAt = math.MaxInt // one at a time
	}
	t.mu.Unlock()
	if t.sharing != nil {
		ping(t.toKeep) // another copy may wait for it
	}
	if sweep {
		go t.sweepDatagrams() // ends by itself: it looks once
	}
}

// sweepDatagrams forgets the noted datagram sockets that nobody has any more.
func (t *Tracker) sweepDatagrams() {
	t.mu.Lock()
	noted := make(map[uint64]struct{}, len(t.datagrams))
	for inode := range t.datagrams {
		noted[inode] = struct{}{}
	}
	t.mu.Unlock()
	holders, opaque := proc.Holders(t.pids(), noted)
	for inode := range noted {
		// What a process has that can't be looked into can't be collected either, as a rule: it does not keep the list growing.
		if len(holders[inode]) == 0 && (len(opaque) == 0 || len(noted) > maxUnseen) {
			t.forget(inode)
		}
	}
	t.mu.Lock()
	t.sweepAt = max(minSweep, 2*len(t.datagrams))
	t.mu.Unlock()
}

// maxUnseen bounds how many datagram sockets are remembered that only processes may have which can't be looked into.
const maxUnseen = 1024

// deepen lets as much wait in the socket's queue as the system allows.
func (s *Socket) deepen() error {
	if !s.Key.IsDatagram() {
		return os.NewSyscallError("listen", unix.Listen(s.fd, math.MaxInt32))
	}
	room, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	// Both double what they are given, for the kernel's own needs (socket(7)).
	const most = 8 << 20
	err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, most)
	if err == unix.EPERM {
		err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, most)
	}
	if now, errNow := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && errNow == nil && now < room {
		err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room/2)
		return os.NewSyscallError("setsockopt", err) // the service had privileges that huptime has not
	}
	if s.room == 0 {
		s.room = room
	}
	return os.NewSyscallError("setsockopt", err)
}

// undeepen gives the queue of a datagram socket its own depth again, once so little waits in it that this costs nothing: of a queue that is over its
// depth what waits stays, but nothing gets in.
func (s *Socket) undeepen() {
	if s.room == 0 {
		return
	}
	room := s.room
	s.room = 0
	if own, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		go shallow(own, s.Key, s.Inode, room) // ends by itself, after shallowLimit at the latest
	}
}

const (
	// shallowLimit is how long a queue may take to get below its own depth; then it stays as deep as it is.
	shallowLimit    = 10 * time.Second
	shallowInterval = 10 * time.Millisecond
)

// shallow owns fd.
func shallow(fd int, k sockaddr.Key, inode uint64, room int) {
	defer unix.Close(fd)
	diag, err := sockdiag.Open()
	if err != nil {
		return
	}
	defer diag.Close()
	for limit := time.Now().Add(shallowLimit); diag.QueuedBytes(k, inode) > room/4; time.Sleep(shallowInterval) {
		if time.Now().After(limit) {
			return
		}
	}
	// It may be refused, or cut, where the service had set it with privileges that huptime has not; it is deeper then.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room/2) == unix.EPERM {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room/2)
	}
}
