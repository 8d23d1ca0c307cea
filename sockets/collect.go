package sockets

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// Collect gets a duplicate of every listening socket of the tracker's
// generation into the supervisor. pids are the generation's processes. Nothing
// is taken from them: they go on accepting. The caller owns what it returns. What a gate on these sockets takes is made as well: where that is not to be had
// it is an error, before anything has begun.
//
// Sockets of another network namespace than the supervisor's are left alone, but for unix sockets that have a path.
func (t *Tracker) Collect(pids []int) (*Preserved, error) {
	own, err := ownNamespace()
	if err != nil {
		return nil, err
	}
	t.noteInquiries(pids)
	inodes := t.serviceInodes()
	wanted := make(map[uint64]struct{}, len(inodes))
	for _, inode := range inodes {
		wanted[inode] = struct{}{}
	}
	where, err := find(pids, wanted)
	if err != nil {
		return nil, err
	}
	if len(where.open) > 0 && len(where.opaque) == 0 {
		return nil, where.inFlight()
	}
	t.noteHolders(where.holders)
	p := &Preserved{old: t, unseen: len(where.open)}
	var failed error
	for _, inode := range inodes {
		if len(where.holders[inode]) == 0 {
			if _, open := where.open[inode]; !open {
				t.forget(inode) // the service has closed it
			}
			continue
		}
		s, err := t.collectFrom(where.holders[inode], inode, own)
		switch {
		case err == nil:
			s.steered = t.isSteered(inode)
			s.dialed = t.dialsFrom(s)
			p.sockets = append(p.sockets, s)
		case errors.Is(err, sockaddr.ErrNotPreservable):
		case errors.Is(err, errUnlocated), errors.Is(err, errOtherNetwork):
			t.log.Warn("a socket is not preserved", slog.Int("generation", t.generation), slog.String("why", err.Error()))
		default:
			failed = errors.Join(failed, err)
		}
	}
	if p.unseen > 0 {
		// Mostly the process that has bound them may be looked into.
		t.log.Warn("processes can't be looked into; sockets that only they hold are not preserved: give huptime CAP_SYS_PTRACE",
			slog.Int("generation", t.generation), slog.Int("sockets", p.unseen), slog.Any("pids", where.opaque))
	}
	if failed != nil {
		p.Close()
		return nil, failed
	}
	if err := t.prepareGate(p.sockets); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// noteHolders notes who has the listening sockets.
func (t *Tracker) noteHolders(holders map[uint64][]proc.Holder) {
	pids := make(map[int]struct{})
	for _, list := range holders {
		for _, h := range list {
			pids[h.PID] = struct{}{}
		}
	}
	t.mu.Lock()
	t.holders = slices.Sorted(maps.Keys(pids))
	t.mu.Unlock()
}

// Holders lists the processes that had listening sockets at the last Collect.
func (t *Tracker) Holders() []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.holders)
}

// collectFrom copies the socket from the first process that still has it. Where all have gone meanwhile, whom they have left it to is looked for:
// workers that are replaced now and then are replaced at that moment too.
func (t *Tracker) collectFrom(holders []proc.Holder, inode, own uint64) (*Socket, error) {
	const rounds = 3
	for round := 1; ; round++ {
		s, err := t.collectBy(t.copyOf, holders, inode, own)
		if !errors.Is(err, errGone) || round == rounds {
			return s, err
		}
		again, _ := proc.Holders(t.pids(), map[uint64]struct{}{inode: {}})
		if holders = again[inode]; len(holders) == 0 {
			return nil, err
		}
	}
}

// errGone: nobody of those who had the socket has it any more. It is one of those that need not be preserved.
var errGone = fmt.Errorf("%w: it was closed a moment ago", sockaddr.ErrNotPreservable)

// collectBy copies the socket from the first of the holders that gives it. Of errors the one is returned that says most: that of a holder who has the
// socket and does not give it.
func (t *Tracker) collectBy(copyOf fdpass.Copier, holders []proc.Holder, inode, own uint64) (*Socket, error) {
	failed := errGone
	for _, h := range holders {
		s, err := t.collectOf(copyOf, h, inode, own)
		switch {
		case err == nil:
			return s, nil
		case failed == errGone, errors.Is(failed, sockaddr.ErrNotPreservable) && !errors.Is(err, sockaddr.ErrNotPreservable):
			failed = err
		}
	}
	return nil, failed
}

// collectOf copies the socket from one holder. The error matches errGone where that is gone, or has closed it.
func (t *Tracker) collectOf(copyOf fdpass.Copier, h proc.Holder, inode, own uint64) (*Socket, error) {
	fd, err := copyOf(h.PID, h.FD, fdpass.Socket)
	if err != nil {
		// By whichever way: a remote call may have been the one to find out.
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) || errors.Is(err, remote.ErrGone) || errors.Is(err, sockaddr.ErrNotPreservable) ||
			lost(h, inode) {
			return nil, errGone
		}
		return nil, err
	}
	s, err := newSocket(fd, h.PID, inode, own)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.owner = t
	s.late = s.NonBlock && t.setsFlagLate(inode)
	s.chosen = t.portChosen(inode)
	t.rescope(s)
	if s.Key.Address.Family == unix.AF_UNIX {
		if err := t.locate(s, h.PID); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return s, nil
}

// lost tells whether a holder has the socket no more.
func lost(h proc.Holder, inode uint64) bool {
	now, ok, err := proc.DescriptorSocket(h.PID, h.FD)
	return errors.Is(err, os.ErrNotExist) || err == nil && (!ok || now != inode)
}

// rescope fills in the interface of a link-local address where getsockname does not tell it: MPTCP sockets forget it (mptcp_bind in
// net/mptcp/protocol.c binds the first subflow, and copies the address alone; seen on 6.18).
func (t *Tracker) rescope(s *Socket) {
	ip := s.Key.Address.AddrPort.Addr()
	if s.Key.Address.Family != unix.AF_INET6 || !sockaddr.NeedsScope(ip) || ip.Zone() != "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.bound[s.Inode]; ok && b.address.AddrPort.Addr().WithZone("") == ip {
		s.Key = s.Key.At(b.address)
	}
}

// CopyOf copies a descriptor of a process that is in no notified call: by pidfd_getfd, or where that
// is denied by the process itself.
func (t *Tracker) copyOf(pid, fd int, what fdpass.Kind) (int, error) {
	return copied(pid, fd, what, func() (int, error) { return t.knocks.fetch(pid, fd, what) })
}

// copied tries pidfd_getfd, and fetch where that is denied.
func copied(pid, fd int, what fdpass.Kind, fetch func() (int, error)) (int, error) {
	dup, err := fdpass.Copy(pid, fd, what)
	if !fdpass.Denied(err) {
		return dup, err
	}
	fetched, errFetch := fetch()
	if errFetch != nil {
		return -1, errors.Join(err, errFetch)
	}
	return fetched, nil
}

// newSocket takes ownership of fd where it returns no error.
func newSocket(fd, pid int, inode, own uint64) (*Socket, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Ino != inode {
		return nil, errGone // the number was used again meanwhile
	}
	key, err := sockaddr.Describe(fd, pid)
	if errors.Is(err, unix.ENOTSOCK) {
		return nil, sockaddr.ErrNotPreservable
	}
	if err != nil {
		return nil, err
	}
	if key.IsDatagram() {
		// One that has a peer belongs to a conversation, and that to a generation.
		if _, err := unix.Getpeername(fd); err != unix.ENOTCONN {
			return nil, sockaddr.ErrNotPreservable
		}
	} else if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return nil, sockaddr.ErrNotPreservable // listen failed, or was undone by shutdown
	}
	foreign := key.NetNS != own
	if foreign {
		// Only a path means the same in every network namespace.
		if name, err := unix.Getsockname(fd); err != nil || !isPathName(name) {
			return nil, errOtherNetwork
		}
	}
	if key.Address.Family != unix.AF_UNIX { // those have yet to be located
		name, err := unix.Getsockname(fd)
		if err != nil {
			return nil, os.NewSyscallError("getsockname", err)
		}
		address, ok := sockaddr.Of(name)
		if !ok || address.Chosen() {
			return nil, sockaddr.ErrNotPreservable // or its bind has failed
		}
		key = key.At(address)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Socket{Key: key, Inode: inode, NonBlock: flags&unix.O_NONBLOCK != 0, fd: fd, foreign: foreign}, nil
}

// ownNamespace is the supervisor's own, as NetworkNamespace would name it.
func ownNamespace() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return sockaddr.NetworkNamespace(fd, os.Getpid())
}
