package sockets

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// plainMember joins the SO_REUSEPORT group of a listening socket with a TCP socket of the supervisor's own, to steer the group by: multipath
// sockets, which Go makes by default, take no program (EOPNOTSUPP, mptcp_supported_sockopt in net/mptcp/sockopt.c), but what clients reach is the
// TCP socket inside of each, and those are a group like any other. The caller owns the descriptor.
//
// From its listen until a program is attached that does not choose it the socket may be chosen. It drops every packet then (see
// placeholder.openTCP), so the client asks again a second later: hence attach, which is called with it at once. The socket joins at the end of the group.
func plainMember(s *Socket, attach func(fd int) error) (fd int, err error) {
	like, ok := s.copy()
	if !ok {
		return -1, os.ErrClosed
	}
	defer unix.Close(like)
	fd, err = unix.Socket(int(s.Key.Address.Family), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := joinGroup(fd, like, s.Key); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := attach(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func joinGroup(fd, like int, k sockaddr.Key) error {
	// Whether it may have a port beside sockets outside of the group, which listen no more or not yet, is decided as it was for the others.
	reuse, err := unix.GetsockoptInt(like, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	options := []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{unix.IPPROTO_IP, unix.IP_MINTTL, farthest},
	}
	if k.Address.Family == unix.AF_INET6 {
		v6Only := 0
		if k.V6Only {
			v6Only = 1
		}
		options = append(options, []struct{ level, name, value int }{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6Only},
			{unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, farthest},
		}...)
	}
	if k.Device != 0 {
		options = append(options, struct{ level, name, value int }{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, k.Device})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	// A group has one owner: the user who made the sockets. For the kernel a socket's owner is that of its inode (sockfs_setattr).
	var st unix.Stat_t
	if err := unix.Fstat(like, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if int(st.Uid) != os.Geteuid() {
		if err := unix.Fchown(fd, int(st.Uid), -1); err != nil {
			return os.NewSyscallError("fchown", err)
		}
	}
	// What came here would be lost. A packet may well say that it has come no hop; not every kernel permits the filter.
	_ = dropAll(fd)
	if err := unix.Bind(fd, k.Address.Sockaddr()); err != nil {
		return os.NewSyscallError("bind", err)
	}
	// Raw, so that this goroutine keeps its processor until the program is attached: what comes in between waits a second.
	if _, _, errno := unix.RawSyscall(unix.SYS_LISTEN, uintptr(fd), 1, 0); errno != 0 {
		return os.NewSyscallError("listen", errno)
	}
	return nil
}
