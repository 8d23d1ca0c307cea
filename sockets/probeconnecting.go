package sockets

import (
	"errors"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// connecting is the socket that a command is about to connect.
type connecting struct {
	own    int // a duplicate; owned; -1 where it could not be copied
	family int
	proto  int
	port   uint16 // that it is bound to, or 0
	bound  bool   // to a port or an address
	info   proc.FDInfo
}

func (s connecting) close() {
	if s.own >= 0 {
		unix.Close(s.own)
	}
}

func (p *ProbeCommand) socket(r *notify.Request) (connecting, error) {
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return connecting{own: -1}, err
	}
	s := connecting{}
	s.own, err = p.t.stage.copyCaller(pid, r.FD())
	if fdpass.Denied(err) {
		return p.partialKey(r, pid)
	}
	if err != nil {
		return connecting{own: -1}, err
	}
	if !r.Valid() {
		s.close()
		return connecting{own: -1}, notify.ErrTargetGone
	}
	key, err := sockaddr.Describe(s.own, r.TID)
	if err == nil && !key.IsTCP() {
		err = errOnlyOne // a datagram's is no connection
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(s.own)
	}
	if err != nil {
		s.close()
		return connecting{own: -1}, err
	}
	address, _ := sockaddr.Of(name)
	s.family, s.proto, s.port = int(key.Address.Family), key.Protocol, address.Port()
	s.bound = s.port != 0 || !address.AddrPort.Addr().Unmap().IsUnspecified()
	return s, nil
}

// partialKey describes a socket that can't be copied, as pidfd_getfd(2) is denied. It can be replaced, where no epoll
// set has it.
func (p *ProbeCommand) partialKey(r *notify.Request, pid int) (connecting, error) {
	s := connecting{own: -1}
	protocol, err := proc.SocketProtocol(r.TID, r.FD())
	if err != nil {
		return s, err
	}
	kind, ok := kinds[protocol]
	if !ok || kind.kind != unix.SOCK_STREAM || kind.family != unix.AF_INET && kind.family != unix.AF_INET6 {
		return s, errOnlyOne
	}
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok {
		return s, errors.Join(err, notify.ErrTargetGone)
	}
	if s.info, err = proc.ReadFDInfo(r.TID, r.FD()); err != nil {
		return s, err
	}
	p.mu.Lock()
	_, planted := p.planted[inode]
	p.mu.Unlock()
	if planted {
		return s, errOnlyOne // it asks once more
	}
	if len(epollset.Entries([]int{pid}, map[uint64]struct{}{inode: {}})) > 0 {
		return s, errors.New("its socket may not be copied, and is in an epoll set")
	}
	s.family, s.proto = int(kind.family), kind.protocol
	return s, nil
}

// bind binds the socket, or puts one that is bound in its place.
func (s *connecting) bind(p *ProbeCommand, r *notify.Request, from netip.AddrPort) error {
	fd, anew := s.own, s.own < 0
	if anew {
		var err error
		if fd, err = unix.Socket(s.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, s.proto); err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		if err := unix.SetNonblock(fd, s.info.Flags&unix.O_NONBLOCK != 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, sockaddrIn(s.family, from)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if !anew {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	p.mu.Lock()
	p.planted[st.Ino] = struct{}{}
	p.mu.Unlock()
	return r.Plant(fd, r.FD(), s.info.CloseOnExec())
}

// sockaddrIn is an address as a socket of the family has it.
func sockaddrIn(family int, a netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	zone, _ := strconv.ParseUint(a.Addr().Zone(), 10, 32) // it is a number: see Address
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: uint32(zone)}
}
