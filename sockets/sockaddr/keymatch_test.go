package sockaddr

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func keyOf(addr string, change func(*Key)) Key {
	a := netip.MustParseAddrPort(addr)
	k := Key{NetNS: 1, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP}
	family := uint16(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	k = k.At(Address{Family: family, AddrPort: a})
	if change != nil {
		change(&k)
	}
	return k
}

// What the kernel says of each pair is asked of it.
func TestOverlaps(t *testing.T) {
	only := func(k *Key) { k.V6Only = true }
	for _, test := range []struct {
		a, b         string
		changeA      func(*Key)
		changeB      func(*Key)
		want, device bool
	}{
		{"0.0.0.0:80", "127.0.0.1:80", nil, nil, true, false},
		{"127.0.0.1:80", "127.0.0.1:80", nil, nil, true, false},
		{"127.0.0.1:80", "127.0.0.2:80", nil, nil, false, false},
		{"0.0.0.0:80", "127.0.0.1:81", nil, nil, false, false},
		{"[::]:80", "127.0.0.1:80", nil, nil, true, false},
		{"[::]:80", "0.0.0.0:80", nil, nil, true, false},
		{"[::]:80", "0.0.0.0:80", only, nil, false, false},
		{"[::]:80", "[::]:80", only, nil, true, false},
		{"[::]:80", "[::1]:80", only, nil, true, false},
		{"[::]:80", "[::1]:80", nil, nil, true, false},
		{"[::1]:80", "127.0.0.1:80", nil, nil, false, false},
		{"[::1]:80", "0.0.0.0:80", nil, nil, false, false},
		{"[::ffff:127.0.0.1]:80", "127.0.0.1:80", nil, nil, true, false},
		{"[::ffff:127.0.0.1]:80", "0.0.0.0:80", nil, nil, true, false},
		{"[::ffff:127.0.0.1]:80", "[::]:80", nil, nil, true, false},
		{"[::ffff:127.0.0.1]:80", "[::]:80", nil, only, false, false},
		{"[::ffff:127.0.0.1]:80", "[::1]:80", nil, nil, false, false},
	} {
		a, b := keyOf(test.a, test.changeA), keyOf(test.b, test.changeB)
		if a.Overlaps(b) != test.want || b.Overlaps(a) != test.want {
			t.Errorf("%v and %v: %v, %v", a, b, a.Overlaps(b), b.Overlaps(a))
		}
		if got := kernelOverlaps(t, a, b); got != test.want && a.Address.Port() == b.Address.Port() {
			t.Errorf("%v and %v: the kernel says %v", a, b, got)
		}
	}
	a, b := keyOf("0.0.0.0:80", func(k *Key) { k.Device = 1 }), keyOf("0.0.0.0:80", func(k *Key) { k.Device = 2 })
	if a.Overlaps(b) || !a.Overlaps(keyOf("127.0.0.1:80", nil)) {
		t.Error("devices")
	}
	if keyOf("0.0.0.0:80", nil).Overlaps(keyOf("127.0.0.1:80", func(k *Key) { k.NetNS = 2 })) {
		t.Error("namespaces")
	}
}

// kernelOverlaps binds both at a port of the kernel's choice, the first one listening.
func kernelOverlaps(t *testing.T, a, b Key) bool {
	t.Helper()
	first := boundLike(t, a, 0)
	if first < 0 {
		t.Fatalf("cannot bind %v", a)
	}
	defer unix.Close(first)
	if err := unix.Listen(first, 1); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(first)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := Of(name)
	second := boundLike(t, b, int(at.Port()))
	if second >= 0 {
		unix.Close(second)
	}
	return second < 0
}

func boundLike(t *testing.T, k Key, port int) int {
	t.Helper()
	fd, err := unix.Socket(int(k.Address.Family), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ip := k.Address.AddrPort.Addr()
	to := unix.Sockaddr(&unix.SockaddrInet6{Addr: ip.As16(), Port: port})
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if ip.Is4() {
		to = &unix.SockaddrInet4{Addr: ip.As4(), Port: port}
	} else if err == nil {
		only := 0
		if k.V6Only && ip.IsUnspecified() {
			only = 1
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, to); err != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}
