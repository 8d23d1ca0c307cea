package sockets

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
)

// O_NONBLOCK belongs to the open file description, which the generations share: an old one must not find the flag of
// its successor there. Where the successor wants to be non-blocking and the old one is not, the flag is written when
// the old one is off the socket; until then the successor's notified accepts say EAGAIN, which is what it expects where
// others take the clients. The other way round notified accepts wait until then. The old one gets its own flag back where it goes on to
// serve. TCP sockets of the two go separate ways instead, where they can: see stageflags.go.
//
// Many make the socket blocking, bind it and set the flag afterwards, which can't be seen where it is set already. So it is
// not taken from a successor that is told of its clients by poll, select or epoll: it has set it.

// wish is what the one that has claimed a socket wants O_NONBLOCK to be there, as long as that has to wait.
type wish struct {
	nonblock bool
	of       *Tracker
}

// setNonBlock gives the socket that is about to be planted the flag that the caller wants, now or later.
func (b *binding) setNonBlock(s *Socket) error {
	later, err := b.writeFlag(s)
	if later {
		b.t.mu.Lock()
		defer b.t.mu.Unlock()
		b.t.flags[s.Inode] = s
	}
	return err
}

func (b *binding) writeFlag(s *Socket) (later bool, err error) {
	s.release.Lock()
	defer s.release.Unlock()
	s.wants = nil
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	if err != nil {
		return false, os.NewSyscallError("fcntl", err)
	}
	switch now := flags&unix.O_NONBLOCK != 0; {
	case now == b.nonblock, s.late:
		return false, nil
	case s.owner != nil && s.owner != b.t && s.owner.holds(s.Inode):
		s.wants = &wish{b.nonblock, b.t}
		return true, nil
	}
	return false, os.NewSyscallError("fcntl", unix.SetNonblock(s.fd, b.nonblock))
}

// flagSettled writes the flag that its claimant wants: nobody else accepts on the socket any more. No lock of a tracker or
// of Preserved is held.
func (s *Socket) flagSettled() error {
	s.release.Lock()
	want := s.wants
	s.release.Unlock()
	if want == nil {
		return nil
	}
	stays := !want.nonblock && want.of.isTold(s.Inode) // takes locks under which others take release
	s.release.Lock()
	defer s.release.Unlock()
	if s.wants != want || s.fd < 0 {
		return nil
	}
	s.wants = nil
	if stays {
		return nil
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(s.fd, want.nonblock))
}

// isTold tells whether the generation was seen to be told of its clients on the socket, or has it in an epoll set.
func (t *Tracker) isTold(inode uint64) bool {
	t.mu.Lock()
	_, polled := t.polled[inode]
	t.mu.Unlock()
	return polled || len(epollset.Entries(t.pids(), map[uint64]struct{}{inode: {}})) > 0
}

// flagRestored writes the flag that the generation has which the socket was collected from: it serves on.
func (s *Socket) flagRestored() error {
	s.release.Lock()
	defer s.release.Unlock()
	s.wants = nil
	if s.fd < 0 {
		return nil
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(s.fd, s.NonBlock))
}

// flagPending is what the claimant wants the flag to be that the socket has not got yet; nil where it has it.
func (s *Socket) flagPending() *wish {
	s.release.Lock()
	defer s.release.Unlock()
	return s.wants
}

// settleFlags writes the flags that the claimants of these sockets want.
func settleFlags(sockets []*Socket) (failed error) {
	for _, s := range sockets {
		failed = errors.Join(failed, s.flagSettled())
	}
	return failed
}

// early answers an accept of a generation that has yet to get the flag that it wants on this socket.
func (t *Tracker) early(r *notify.Request, inode uint64) (notify.Reply, bool) {
	t.mu.Lock()
	s := t.flags[inode]
	t.mu.Unlock()
	if s == nil {
		return notify.Reply{}, false
	}
	switch want := s.flagPending(); {
	case want == nil:
	case want.nonblock:
		return notify.Fail(unix.EAGAIN), true
	case t.isTold(inode):
		return notify.Reply{}, false // it expects EAGAIN
	default:
		return t.holdAccept(r, s), true
	}
	t.mu.Lock()
	delete(t.flags, inode)
	t.mu.Unlock()
	return notify.Reply{}, false
}
