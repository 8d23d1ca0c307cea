package sockets

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// loopbackAt is where TCP placeholders are. As IPv6 has it: containers often have IPv6 without one address of it (Docker's
// net.ipv6.conf.all.disable_ipv6), and services listen on [::] there.
func loopbackAt(family, port int) unix.Sockaddr {
	if family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
	}
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// farthest is the greatest time to live that a packet can have. Others are sent with 64, or what
// net.ipv4.ip_default_ttl says.
const farthest = 255

// openTCP gives the placeholder a port, the kernel's choice, and lets it listen behind a closed door.
func (d *placeholder) openTCP() error {
	// Before it listens, so that there is no moment in which it could be reached. Beside the door, for what that
	// leaves: packets must have come no hop and say so (ip(7), IP_MINTTL, Linux 2.6.34; for TCP over IPv4, whatever the
	// socket's family).
	if err := unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_MINTTL, farthest); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	d.closed = filterDoor(d.fd)
	return d.openBehind(d.closed.admit(nil))
}

// openBehind does that behind the filter, or where that failed behind a decoy.
func (d *placeholder) openBehind(noFilter error) (err error) {
	port := 0
	if noFilter != nil {
		decoy, at, err := newDecoy(d.family)
		if err != nil {
			return errors.Join(noFilter, err)
		}
		d.closed, port = decoy, at
		if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err := bindLoopback(d.fd, d.family, port); err != nil {
		return err
	}
	if err := unix.Listen(d.fd, unix.SOMAXCONN); err != nil {
		return os.NewSyscallError("listen", err)
	}
	d.port, err = portOf(d.fd)
	return err
}

func bindLoopback(fd, family, port int) error {
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, loopbackAt(family, port)))
}

// portOf returns the port that a socket is bound to.
func portOf(fd int) (int, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	address, _ := sockaddr.Of(name)
	return int(address.Port()), nil
}

// enterTCP connects a client of the supervisor's. The client has its port to itself (no SO_REUSEADDR, no SO_REUSEPORT),
// and packets of others can't come from there, until the door is closed to it.
//
// On loopback the three-way handshake is mostly over when connect returns. On a busy machine the packets may be left to
// ksoftirqd; a client that closes before would be none. (With 25 threads that could run on 2 processors more than
// 100 ms were seen.) Then it returns, for a call may be waiting for its answer, and the rest follows.
func (d *placeholder) enterTCP() error {
	// Of a listening socket these are how many wait and how many may (tcp_get_info in net/ipv4/tcp.c). Where it is full
	// there is one for everybody, and another would be waited for in vain.
	info, err := unix.GetsockoptTCPInfo(d.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err == nil && info.Unacked >= info.Sacked {
		return nil
	}
	c := &caller{from: d}
	if err := c.open(); err != nil {
		c.close()
		return err
	}
	err = unix.Connect(c.fd, loopbackAt(d.family, d.port))
	if err == unix.EINPROGRESS {
		over, failed := c.handshaken(0)
		if !over {
			return c.follow()
		}
		err = failed
	}
	return errors.Join(os.NewSyscallError("connect", err), c.close())
}

// caller is the client of a phantom.
type caller struct {
	from *placeholder // to which it connects
	fd   int          // owned
	port uint32       // 0 where the door is not open to it
}

func (c *caller) open() (err error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if c.fd, err = unix.Socket(c.from.family, kind, unix.IPPROTO_TCP); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_IP, unix.IP_TTL, farthest); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := bindLoopback(c.fd, c.from.family, 0); err != nil {
		return err
	}
	port, err := portOf(c.fd)
	if err != nil {
		return err
	}
	c.port = uint32(port)
	return c.from.let.add(c.from.closed, c.port)
}

// follow waits elsewhere for the handshake. It takes the caller. The placeholder may be closed meanwhile.
func (c *caller) follow() error {
	own, err := c.from.copy()
	if err != nil {
		return errors.Join(err, c.close())
	}
	c.from = own
	go func() { // ends with the handshake, or by itself
		defer own.close()
		_, _ = c.handshaken(handshakeLimit)
		_ = c.close()
	}()
	return nil
}

// handshaken waits until the client is connected, or can't be.
func (c *caller) handshaken(limit time.Duration) (over bool, err error) {
	polled := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	for end := time.Now().Add(limit); ; {
		n, err := unix.Poll(polled, int(max(0, time.Until(end)).Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return true, err
		case n == 0:
			return false, nil
		}
		code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return true, err
	}
}

// close closes the door behind the client, and then the client.
func (c *caller) close() error {
	var err error
	if c.port != 0 {
		err = c.from.let.remove(c.from.closed, c.port)
	}
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
	return err
}
