package sockets

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
)

// Collect gets a duplicate of every listening socket of the tracker's
// generation into the supervisor. pids are the generation's processes. Nothing
// is taken from them: they go on accepting. The caller owns what it returns.
//
// Sockets of another network namespace than the supervisor's are left alone, but for unix sockets that have a path.
func (t *Tracker) Collect(pids []int) (*Preserved, error) {
	own, err := ownNamespace()
	if err != nil {
		return nil, err
	}
	t.noteAsking(pids)
	inodes := t.listeningInodes()
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
	p := &Preserved{unseen: len(where.open)}
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
		case errors.Is(err, errNotPreservable):
		case errors.Is(err, errUnlocated), errors.Is(err, errForeign):
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
	return p, nil
}

// collectFrom copies the socket from the first process that still has it.
func (t *Tracker) collectFrom(holders []proc.Holder, inode, own uint64) (*Socket, error) {
	var failed error
	for _, h := range holders {
		fd, err := t.copyOf(h.PID, h.FD)
		if err != nil {
			if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) {
				failed = errNotPreservable // it is closing right now
				continue
			}
			return nil, err
		}
		s, err := newSocket(fd, h.PID, inode, own)
		if err != nil {
			unix.Close(fd)
			failed = err
			continue
		}
		t.rescope(s)
		if s.Key.Address.Family == unix.AF_UNIX {
			if err := t.locate(s, h.PID); err != nil {
				unix.Close(fd)
				return nil, err
			}
		}
		return s, nil
	}
	return nil, failed
}

// rescope fills in the interface of a link-local address where getsockname does not tell it: MPTCP sockets forget it (mptcp_bind in
// net/mptcp/protocol.c binds the first subflow, and copies the address alone; seen on 6.18).
func (t *Tracker) rescope(s *Socket) {
	ip := s.Key.Address.AddrPort.Addr()
	if s.Key.Address.Family != unix.AF_INET6 || !needsScope(ip) || ip.Zone() != "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.bound[s.Inode]; ok && b.address.AddrPort.Addr().WithZone("") == ip {
		s.Key = s.Key.at(b.address)
	}
}

// copyOf copies a descriptor of a process that is in no notified call: by pidfd_getfd, or where that
// is denied by the process itself.
func (t *Tracker) copyOf(pid, fd int) (int, error) {
	return copied(pid, fd, func() (int, error) { return t.knocks.fetch(pid, fd) })
}

// copied tries pidfd_getfd, and fetch where that is denied.
func copied(pid, fd int, fetch func() (int, error)) (int, error) {
	dup, err := duplicate(pid, fd)
	if !denied(err) {
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
		return nil, errNotPreservable // the number was used again meanwhile
	}
	key, err := describe(fd, pid)
	if errors.Is(err, unix.ENOTSOCK) {
		return nil, errNotPreservable
	}
	if err != nil {
		return nil, err
	}
	if key.datagram() {
		// One that has a peer belongs to a conversation, and that to a generation.
		if _, err := unix.Getpeername(fd); err != unix.ENOTCONN {
			return nil, errNotPreservable
		}
	} else if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return nil, errNotPreservable // listen failed, or was undone by shutdown
	}
	foreign := key.NetNS != own
	if foreign {
		// Only a path means the same in every network namespace.
		if name, err := unix.Getsockname(fd); err != nil || !isPathName(name) {
			return nil, errForeign
		}
	}
	if key.Address.Family != unix.AF_UNIX { // those have yet to be located
		name, err := unix.Getsockname(fd)
		if err != nil {
			return nil, os.NewSyscallError("getsockname", err)
		}
		address, ok := SockaddrOf(name)
		if !ok || address.chosen() {
			return nil, errNotPreservable // or its bind has failed
		}
		key = key.at(address)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Socket{Key: key, Inode: inode, NonBlock: flags&unix.O_NONBLOCK != 0, fd: fd, foreign: foreign}, nil
}

// errForeign: what listens in another network namespace can only be preserved where it has a path.
var errForeign = errors.New("a socket of another network namespace than huptime's is not preserved: its address is refused between two generations, " +
	"or in use while both run; start huptime inside that namespace")

func isPathName(name unix.Sockaddr) bool {
	at, ok := name.(*unix.SockaddrUnix)
	return ok && at.Name != "" && at.Name[0] != '@'
}

// ownNamespace is the supervisor's own, as networkNamespace would name it.
func ownNamespace() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return networkNamespace(fd, os.Getpid())
}
