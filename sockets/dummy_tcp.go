package sockets

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// loopbackAt is where TCP dummies are. As IPv6 has it: containers often have IPv6 without one address of it (Docker's
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

// openTCP gives the dummy a port, the kernel's choice, and lets it listen behind a closed door.
func (d *dummy) openTCP() error {
	// Before it listens, so that there is no moment in which it could be reached. Beside the door, for what that
	// leaves: packets must have come no hop and say so (ip(7), IP_MINTTL, Linux 2.6.34; for TCP over IPv4, whatever the
	// socket's family).
	if err := unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_MINTTL, farthest); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	d.closed = filterDoor(d.fd)
	return d.openBehind(d.closed.admit(nobody))
}

// openBehind does that behind the filter, or where that failed behind a decoy.
func (d *dummy) openBehind(noFilter error) error {
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
	name, err := unix.Getsockname(d.fd)
	d.address = name
	return os.NewSyscallError("getsockname", err)
}

func bindLoopback(fd, family, port int) error {
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, loopbackAt(family, port)))
}

// handshakeMoment bounds the wait for a handshake on loopback, which as a rule is over when connect returns. It is
// below the second after which a packet that was dropped is sent again.
const handshakeMoment = 200 * time.Millisecond

// enterTCP connects a client of the supervisor's, and lets nobody else in meanwhile: the client has its port to itself
// (no SO_REUSEADDR, no SO_REUSEPORT), and packets of others can't come from there.
func (d *dummy) enterTCP(client int) error {
	// Of a listening socket these are how many wait and how many may (tcp_get_info in net/ipv4/tcp.c). Where it is full
	// there is one for everybody, and another would be waited for in vain.
	info, err := unix.GetsockoptTCPInfo(d.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err == nil && info.Unacked >= info.Sacked {
		return nil
	}
	if err := unix.SetsockoptInt(client, unix.IPPROTO_IP, unix.IP_TTL, farthest); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := bindLoopback(client, d.family, 0); err != nil {
		return err
	}
	name, err := unix.Getsockname(client)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	address, _ := SockaddrOf(name)
	if err := d.closed.admit(uint32(address.Port())); err != nil {
		return err
	}
	err = unix.Connect(client, d.address)
	if err == unix.EINPROGRESS {
		err = handshaken(client)
	}
	return errors.Join(os.NewSyscallError("connect", err), d.closed.admit(nobody))
}

// handshaken waits until the client is connected.
func handshaken(client int) error {
	polled := []unix.PollFd{{Fd: int32(client), Events: unix.POLLOUT}}
	for limit := time.Now().Add(handshakeMoment); ; {
		n, err := unix.Poll(polled, int(max(0, time.Until(limit)).Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		code, err := unix.GetsockoptInt(client, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return err
	}
}
