package sockets

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// dummy is a listening socket that nobody can reach, or a datagram socket without a name: what a gated
// generation has in place of a preserved one. It owns its descriptor.
type dummy struct {
	fd       int
	inode    uint64
	stands   uint64 // inode of the socket that it stands for
	nonblock bool
	address  unix.Sockaddr
	family   int
	kind     int // SOCK_STREAM, SOCK_SEQPACKET or SOCK_DGRAM
	protocol int
	// numbers at which processes have it that can't be looked into.
	numbers map[int]bool
}

// unseen tells whether such a process may have it.
func (d *dummy) unseen() bool { return len(d.numbers) > 0 }

// waits tells whether a connection waits in its queue, or comes in that time.
func (d *dummy) waits(limit time.Duration) bool {
	polled := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(polled, int(limit/time.Millisecond))
	return n > 0
}

// newDummy makes one of the key's family and type, as blocking as the socket that it stands for. The port is the
// kernel's choice, on loopback. For a vsock socket it is a unix one: few kernels have a loopback for these, and any
// port can be reached from the host.
func newDummy(k Key, nonblock bool) (*dummy, error) {
	d := &dummy{numbers: make(map[int]bool), nonblock: nonblock, family: int(k.Address.Family), kind: k.Type}
	if d.family == unix.AF_VSOCK {
		d.family = unix.AF_UNIX
	}
	if d.family != unix.AF_UNIX && d.kind != unix.SOCK_DGRAM {
		d.protocol = unix.IPPROTO_TCP
	}
	kind := d.kind | unix.SOCK_CLOEXEC
	if nonblock {
		kind |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(d.family, kind, d.protocol)
	if err != nil {
		return nil, fmt.Errorf("cannot make a dummy socket: %w", os.NewSyscallError("socket", err))
	}
	d.fd = fd
	if err := d.open(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make a dummy socket: %w", err)
	}
	return d, nil
}

func (d *dummy) open() error {
	if d.kind == unix.SOCK_DGRAM {
		return d.identify() // unbound: nothing can be sent to it
	}
	loopback := unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	switch d.family {
	case unix.AF_INET6:
		// IPv4's loopback as IPv6 has it: containers often have IPv6 without one address of it (Docker's
		// net.ipv6.conf.all.disable_ipv6), and services listen on [::] there.
		loopback = &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
		if err := unix.SetsockoptInt(d.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	case unix.AF_UNIX:
		loopback = unguessable()
	}
	// Before listen, so that there is no moment in which it could be reached.
	if err := d.refuse(); err != nil {
		return err
	}
	if err := unix.Bind(d.fd, loopback); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(d.fd, unix.SOMAXCONN); err != nil {
		return os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(d.fd)
	d.address = name
	return errors.Join(os.NewSyscallError("getsockname", err), d.identify())
}

func (d *dummy) identify() error {
	var st unix.Stat_t
	err := unix.Fstat(d.fd, &st)
	d.inode = st.Ino
	return os.NewSyscallError("fstat", err)
}

// limitLike gives the dummy the time after which a call that waits for a datagram returns in vain (SO_RCVTIMEO):
// programs look then whether they are to end.
func (d *dummy) limitLike(s *Socket) {
	fd, ok := s.copy()
	if !ok {
		return
	}
	defer unix.Close(fd)
	if limit, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO); err == nil {
		_ = unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, limit)
	}
}

// farthest is the greatest time to live that a packet can have. Others are sent with 64, or what
// net.ipv4.ip_default_ttl says.
const farthest = 255

// refuse makes the kernel drop every packet that is sent to the socket, but for those that have come no hop and say so
// (ip(7), IP_MINTTL, Linux 2.6.34; for TCP over IPv4, whatever the socket's family): only phantom sends such. A socket
// filter would do the same, but there are kernels that let only root attach one. Unix sockets are not asked when
// somebody connects.
func (d *dummy) refuse() error {
	if d.family == unix.AF_UNIX {
		return nil
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_MINTTL, farthest))
}

func untilConnected(fd int) []unix.PollFd {
	return []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
}

// phantom puts a connection into the queue that its peer has already closed. A
// server reads end of file from it and closes it: clients that change their
// mind are everyday business. A program that does nothing but accept takes it
// and waits on. A program that was told "readable" by poll or select, while somebody else
// took the connection, would hang in accept without it, and all its clients with it.
func (d *dummy) phantom() error {
	client, err := unix.Socket(d.family, d.kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, d.protocol)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	left := false
	defer func() {
		if !left {
			unix.Close(client)
		}
	}()
	if d.family != unix.AF_UNIX {
		if err := unix.SetsockoptInt(client, unix.IPPROTO_IP, unix.IP_TTL, farthest); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	err = unix.Connect(client, d.address)
	if err == unix.EINPROGRESS {
		// On loopback the three-way handshake is mostly over when connect returns. On a busy machine the packets may be
		// left to ksoftirqd; a client that closes before would be none. (With 25 threads that could run on 2 processors
		// more than 100 ms were seen.)
		err = nil
		if n, _ := unix.Poll(untilConnected(client), 0); n == 0 {
			left = true
			go func() { // ends with the handshake, or by itself
				_, _ = unix.Poll(untilConnected(client), int(handshakeLimit/time.Millisecond))
				unix.Close(client)
			}()
		}
	}
	return os.NewSyscallError("connect", err)
}

// unguessable is an abstract name that nobody connects to by chance or by guess. A path that is unlinked would do as
// well, but there need not be a directory to write to; a listening unix socket without any name there is not
// (unix_listen in net/unix/af_unix.c).
func unguessable() unix.Sockaddr {
	return &unix.SockaddrUnix{Name: "@huptime-dummy-" + rand.Text()}
}

// Close gives the descriptor back; the generation's own copies live on.
func (d *dummy) close() { unix.Close(d.fd) }
