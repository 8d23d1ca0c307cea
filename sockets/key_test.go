package sockets

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/sockets/sockaddr"
)

func namespace(t *testing.T) uint64 {
	t.Helper()
	ns, err := ownNamespace()
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestNewSocket(t *testing.T) {
	t.Parallel()
	// Made anew for each: they have room for what the kernel is given.
	v4 := func() unix.Sockaddr { return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}} }
	v6 := func() unix.Sockaddr { return &unix.SockaddrInet6{} } // of any other address the kernel says IPV6_V6ONLY once it is bound
	only := func(on int) func(*testing.T, int) {
		return func(t *testing.T, fd int) {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, on); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name                   string
		family, kind, protocol int
		address                func() unix.Sockaddr
		prepare                func(*testing.T, int)
		want                   sockaddr.Key
		nonblock               bool
	}{
		{name: "TCP4", family: unix.AF_INET, address: v4, want: sockaddr.Key{Protocol: unix.IPPROTO_TCP}},
		{name: "non-blocking", family: unix.AF_INET, kind: unix.SOCK_NONBLOCK, address: v4, want: sockaddr.Key{Protocol: unix.IPPROTO_TCP}, nonblock: true},
		{name: "TCP6", family: unix.AF_INET6, address: v6, prepare: only(0), want: sockaddr.Key{Protocol: unix.IPPROTO_TCP}},
		{name: "TCP6 only", family: unix.AF_INET6, address: v6, prepare: only(1), want: sockaddr.Key{Protocol: unix.IPPROTO_TCP, V6Only: true}},
		{name: "MPTCP", family: unix.AF_INET, protocol: unix.IPPROTO_MPTCP, address: v4, want: sockaddr.Key{Protocol: unix.IPPROTO_MPTCP}},
		{name: "on a device", family: unix.AF_INET, address: v4, prepare: func(t *testing.T, fd int) {
			// Linux 5.7; before that CAP_NET_RAW.
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1); err != nil {
				t.Skipf("unsupported here: binding to a device: %v", err)
			}
		}, want: sockaddr.Key{Protocol: unix.IPPROTO_TCP, Device: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fd := puppets.OpenSocket(t, test.family, unix.SOCK_STREAM|test.kind, test.protocol)
			if test.prepare != nil {
				test.prepare(t, fd)
			}
			if err := unix.Bind(fd, test.address()); errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Skipf("unsupported here: no such address: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			inode, own := puppets.SocketInode(t, fd), namespace(t)
			if _, err := newSocket(fd, os.Getpid(), inode, own); !errors.Is(err, sockaddr.ErrNotPreservable) {
				t.Errorf("before listen: %v", err)
			}
			if err := unix.Listen(fd, 1); err != nil {
				t.Fatal(err)
			}
			s, err := newSocket(fd, os.Getpid(), inode, own)
			if err != nil {
				t.Fatal(err)
			}
			name, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Address, _ = sockaddr.Of(name)
			test.want.Type, test.want.NetNS = unix.SOCK_STREAM, own
			if s.Key != test.want || s.Inode != inode || s.NonBlock != test.nonblock || s.fd != fd || s.claimed {
				t.Errorf("%+v, want %+v", s, test.want)
			}
			if _, err := newSocket(fd, os.Getpid(), inode+1, own); !errors.Is(err, sockaddr.ErrNotPreservable) {
				t.Errorf("another inode: %v", err)
			}
			if _, err := newSocket(fd, os.Getpid(), inode, own+1); !errors.Is(err, errOtherNetwork) {
				t.Errorf("another network namespace: %v", err)
			}
		})
	}
}

func TestNotPreservable(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	undone := puppets.OpenSocket(t, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err := unix.Listen(undone, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(undone, unix.SHUT_RD); err != nil { // takes a socket out of listening
		t.Fatal(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	connected := puppets.OpenSocket(t, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := unix.Connect(connected, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	datagramPair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(datagramPair[0])
	defer unix.Close(datagramPair[1])
	for name, fd := range map[string]int{
		"UDP, unbound":    puppets.OpenSocket(t, unix.AF_INET, unix.SOCK_DGRAM, 0),
		"UDP6, unbound":   puppets.OpenSocket(t, unix.AF_INET6, unix.SOCK_DGRAM, 0),
		"UDP with a peer": connected,
		"datagram pair":   datagramPair[0],
		"a pair":          pair[0],
		"shut down":       undone,
		"netlink":         puppets.OpenSocket(t, unix.AF_NETLINK, unix.SOCK_RAW, 0),
		"no socket":       int(null.Fd()),
		"never listening": puppets.OpenSocket(t, unix.AF_INET6, unix.SOCK_STREAM, 0),
	} {
		if s, err := newSocket(fd, os.Getpid(), puppets.SocketInode(t, fd), namespace(t)); !errors.Is(err, sockaddr.ErrNotPreservable) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := sockaddr.Describe(-1, os.Getpid()); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
}
