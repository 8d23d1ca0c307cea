package sockets

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

func tcpKey(addr string) sockaddr.Key {
	ap := netip.MustParseAddrPort(addr)
	family := uint16(unix.AF_INET)
	if ap.Addr().Is6() {
		family = unix.AF_INET6
	}
	return sockaddr.Key{NetNS: 1, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP, Address: sockaddr.Address{Family: family, AddrPort: ap}}
}

// preserve makes a Preserved of sockets with these keys and the inodes 1, 2, ..., each with a descriptor.
func preserve(t *testing.T, keys ...sockaddr.Key) *Preserved {
	t.Helper()
	p := &Preserved{}
	t.Cleanup(p.Close)
	for i, key := range keys {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.sockets = append(p.sockets, &Socket{Key: key, Inode: uint64(i + 1), fd: fd})
	}
	return p
}

func inodes(sockets []*Socket) []uint64 {
	var list []uint64
	for _, s := range sockets {
		list = append(list, s.Inode)
	}
	return list
}

func TestClaimOrder(t *testing.T) {
	t.Parallel()
	a, b := tcpKey("127.0.0.1:80"), tcpKey("127.0.0.1:81")
	p := preserve(t, a, b, a, a)
	held := map[uint64]bool{}
	claim := func(k sockaddr.Key, plant func(*Socket) error) (uint64, error) {
		s, err := p.claim(k, func(inode uint64) bool { return held[inode] }, plant)
		if s == nil {
			return 0, err
		}
		return s.Inode, err
	}
	planted := func(s *Socket) error {
		if s.fd < 0 {
			t.Errorf("socket %d has no descriptor", s.Inode)
		}
		held[s.Inode] = true
		return nil
	}
	refused := errors.New("refused")
	for i, step := range []struct {
		key   sockaddr.Key
		plant func(*Socket) error
		want  uint64
		err   error
	}{
		{a, func(*Socket) error { return refused }, 0, refused}, // it stays unclaimed
		{a, planted, 1, nil},
		{b, planted, 2, nil},
		{a, planted, 3, nil},
		{b, planted, 0, nil}, // claimed and held
		{a, planted, 4, nil},
		{a, planted, 0, nil},
		{tcpKey("127.0.0.1:82"), planted, 0, nil},
	} {
		if got, err := claim(step.key, step.plant); got != step.want || err != step.err {
			t.Fatalf("step %d: socket %d, %v; want %d, %v", i, got, err, step.want, step.err)
		}
	}
	// One that was let go is claimed again, the first of them first.
	held[3], held[4] = false, false
	for _, want := range []uint64{3, 4, 0} {
		if got, err := claim(a, planted); got != want || err != nil {
			t.Fatalf("again: socket %d, %v; want %d", got, err, want)
		}
	}
}

// Not parallel: nobody else may take the numbers that become free.
func TestPreservedLists(t *testing.T) {
	a, b := tcpKey("127.0.0.1:80"), tcpKey("[::1]:80")
	p := preserve(t, a, b)
	if _, err := p.claim(b, nil, func(*Socket) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if c, u := inodes(p.Claimed()), inodes(p.Unclaimed()); len(c) != 1 || c[0] != 2 || len(u) != 1 || u[0] != 1 || len(p.Sockets()) != 2 {
		t.Errorf("claimed %v, unclaimed %v", c, u)
	}
	if !p.stands(a.Address) || !p.stands(b.Address) || p.stands(tcpKey("127.0.0.1:81").Address) {
		t.Error("stands")
	}
	claimed, unclaimed := p.sockets[1].fd, p.sockets[0].fd
	for range 2 {
		p.ReleaseClaimed()
		if isOpen(claimed) || !isOpen(unclaimed) || p.stands(b.Address) || !p.stands(a.Address) {
			t.Error("ReleaseClaimed: claimed sockets are closed, the others are not")
		}
	}
	// The number is somebody else's by now: to close it again would be an error that nobody sees.
	other, err := unix.FcntlInt(uintptr(unclaimed), unix.F_DUPFD_CLOEXEC, claimed)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	for range 2 {
		p.Close()
		p.ReleaseClaimed()
	}
	if isOpen(unclaimed) || !isOpen(other) || p.stands(a.Address) {
		t.Error("Close: nothing stands any more, and what is another's is left alone")
	}
	s, err := p.claim(a, func(uint64) bool { return false }, func(*Socket) error { t.Error("planted when closed"); return nil })
	if s != nil || err != nil {
		t.Errorf("claimed when closed: %v, %v", s, err)
	}
	if len(p.Sockets()) != 2 {
		t.Error("what it was is forgotten")
	}
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// A bind on the listener's goroutine, and a release on another.
func TestClaimAndReleaseTogether(t *testing.T) {
	t.Parallel()
	k := tcpKey("127.0.0.1:80")
	for range 50 {
		p := preserve(t, k)
		var both sync.WaitGroup
		both.Go(p.Close)
		both.Go(func() {
			_, _ = p.claim(k, nil, func(s *Socket) error {
				if !isOpen(s.fd) {
					t.Error("planted from a closed descriptor")
				}
				return nil
			})
		})
		both.Wait()
	}
}

func TestKeyEquality(t *testing.T) {
	t.Parallel()
	base := tcpKey("[::]:80")
	for name, change := range map[string]func(*sockaddr.Key){
		"namespace": func(k *sockaddr.Key) { k.NetNS = 2 },
		"type":      func(k *sockaddr.Key) { k.Type = unix.SOCK_SEQPACKET },
		"protocol":  func(k *sockaddr.Key) { k.Protocol = unix.IPPROTO_MPTCP },
		"IPv6 only": func(k *sockaddr.Key) { k.V6Only = true },
		"device":    func(k *sockaddr.Key) { k.Device = 1 },
		"port":      func(k *sockaddr.Key) { k.Address = tcpKey("[::]:81").Address },
		"address":   func(k *sockaddr.Key) { k.Address = tcpKey("[::1]:80").Address },
		"family":    func(k *sockaddr.Key) { k.Address = tcpKey("0.0.0.0:80").Address },
		"mapped":    func(k *sockaddr.Key) { k.Address = tcpKey("[::ffff:0.0.0.0]:80").Address },
		"scope":     func(k *sockaddr.Key) { k.Address = tcpKey("[fe80::1%2]:80").Address },
	} {
		k := base
		change(&k)
		p := preserve(t, base)
		if s, err := p.claim(k, nil, func(*Socket) error { return nil }); s != nil || err != nil || k == base {
			t.Errorf("another %s: %v, %v", name, s, err)
		}
	}
	for k, want := range map[sockaddr.Key]string{
		base: "tcp://[::]:80",
		{Type: unix.SOCK_STREAM, V6Only: true, Address: base.Address}:                             "tcp://[::]:80 (IPv6 only)",
		{Type: unix.SOCK_STREAM, Device: 3, Address: tcpKey("1.2.3.4:5").Address}:                 "tcp://1.2.3.4:5 (device 3)",
		{Type: unix.SOCK_STREAM, Address: tcpKey("[fe80::1%2]:80").Address}:                       "tcp://[fe80::1%2]:80",
		{Type: unix.SOCK_DGRAM, Address: tcpKey("1.2.3.4:5").Address, Protocol: unix.IPPROTO_UDP}: "udp://1.2.3.4:5",
	} {
		if k.String() != want {
			t.Errorf("%q, want %q", k, want)
		}
	}
}
