package sockets

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// A link-local address is of an interface, whichever way that is said.
func TestScopedKey(t *testing.T) {
	t.Parallel()
	at := func(addr string, device int) sockaddr.Key {
		return sockaddr.Key{Type: unix.SOCK_STREAM, Device: device}.At(sockaddr.Address{Family: unix.AF_INET6, AddrPort: netip.MustParseAddrPort(addr)})
	}
	want := at("[fe80::1%4]:80", 0)
	for _, k := range []sockaddr.Key{at("[fe80::1]:80", 4), at("[fe80::1%4]:80", 4)} {
		if k != want {
			t.Errorf("%v, want %v", k, want)
		}
	}
	if k := at("[fe80::1%4]:80", 5); k == want || k.Device != 5 { // the kernel refuses it
		t.Errorf("%v", k)
	}
	if k := at("[2001:db8::1]:80", 4); k.Device != 4 || k.Address.AddrPort.Addr().Zone() != "" {
		t.Errorf("%v", k)
	}
}

// What MPTCP forgets of a link-local address is known from its bind.
func TestRescope(t *testing.T) {
	t.Parallel()
	tracker := newTestTracker(1, "", nil, nil, NewKnocks(), nil)
	address := func(addr string) sockaddr.Address {
		return sockaddr.Address{Family: unix.AF_INET6, AddrPort: netip.MustParseAddrPort(addr)}
	}
	tracker.binds(7, boundName{address: address("[fe80::1%4]:80")})
	for _, test := range []struct {
		inode    uint64
		is, want string
	}{
		{7, "[fe80::1]:80", "[fe80::1%4]:80"},
		{7, "[fe80::2]:80", "[fe80::2]:80"},
		{7, "[fe80::1%5]:80", "[fe80::1%5]:80"},
		{8, "[fe80::1]:80", "[fe80::1]:80"},
		{7, "[::1]:80", "[::1]:80"},
	} {
		s := &Socket{Inode: test.inode, Key: sockaddr.Key{}.At(address(test.is))}
		if tracker.rescope(s); s.Key.Address.AddrPort.String() != test.want {
			t.Errorf("%d, %s: %v, want %s", test.inode, test.is, s.Key, test.want)
		}
	}
}
