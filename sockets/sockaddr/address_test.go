package sockaddr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

func TestParse(t *testing.T) {
	t.Parallel()
	zeros := func(n int) []byte { return make([]byte, n) }
	local := append(puppets.Sockaddr(unix.AF_INET, 0x1f, 0x90, 127, 0, 0, 1), zeros(8)...)
	unspec := append(puppets.Sockaddr(unix.AF_UNSPEC, 0, 80, 0, 0, 0, 0), zeros(8)...)
	for _, test := range []struct {
		name   string
		b      []byte
		family uint16
		text   string
		err    error
	}{
		{"IPv4", local, unix.AF_INET, "127.0.0.1:8080", nil},
		{"IPv4 with rubbish for padding", append(local[:8:8], bytes.Repeat([]byte{7}, 8)...), unix.AF_INET, "127.0.0.1:8080", nil},
		{"IPv4, as long as may be", append(local[:16:16], zeros(112)...), unix.AF_INET, "127.0.0.1:8080", nil},
		{"IPv4, longer", append(local[:16:16], zeros(113)...), 0, "", ErrLong},
		{"IPv4, a byte short", local[:15], 0, "", ErrShort},
		{"IPv4, port 0", append(puppets.Sockaddr(unix.AF_INET, 0, 0, 0, 0, 0, 0), zeros(8)...), unix.AF_INET, "0.0.0.0:0", nil},
		{"no family, any address", unspec, unix.AF_INET, "0.0.0.0:80", nil},
		{"no family, any address, short", unspec[:15], 0, "", ErrOtherFamily},
		{"no family, an address", append(puppets.Sockaddr(unix.AF_UNSPEC, 0, 80, 127, 0, 0, 1), zeros(8)...), 0, "", ErrOtherFamily},
		{"no family alone", puppets.Sockaddr(unix.AF_UNSPEC), 0, "", ErrOtherFamily},
		{"IPv6", puppets.Sockaddr6("::1", 80, 0), unix.AF_INET6, "[::1]:80", nil},
		{"IPv6 without scope id", puppets.Sockaddr6("::1", 80, 0)[:24], unix.AF_INET6, "[::1]:80", nil},
		{"IPv6, a byte short", puppets.Sockaddr6("::1", 80, 0)[:23], 0, "", ErrShort},
		{"IPv6 as long as IPv4", puppets.Sockaddr6("::1", 80, 0)[:16], 0, "", ErrShort},
		{"IPv6, IPv4-mapped", puppets.Sockaddr6("::ffff:10.0.0.1", 80, 0), unix.AF_INET6, "[::ffff:10.0.0.1]:80", nil},
		{"link-local", puppets.Sockaddr6("fe80::1", 80, 3), unix.AF_INET6, "[fe80::1%3]:80", nil},
		{"link-local, no scope", puppets.Sockaddr6("fe80::1", 80, 0), unix.AF_INET6, "[fe80::1]:80", nil},
		{"link-local, cut before the scope's end", puppets.Sockaddr6("fe80::1", 80, 3)[:27], unix.AF_INET6, "[fe80::1]:80", nil},
		{"scope where there is none", puppets.Sockaddr6("2001:db8::1", 80, 3), unix.AF_INET6, "[2001:db8::1]:80", nil},
		{"largest scope", puppets.Sockaddr6("fe80::1", 80, 0xffffffff), unix.AF_INET6, "[fe80::1%4294967295]:80", nil},
		{"unix path", puppets.Sockaddr(unix.AF_UNIX, []byte("/run/sock")...), unix.AF_UNIX, "unix:/run/sock", nil},
		{"unix path with its NUL", puppets.Sockaddr(unix.AF_UNIX, []byte("/run/sock\x00rubbish")...), unix.AF_UNIX, "unix:/run/sock", nil},
		{"unix path, relative", puppets.Sockaddr(unix.AF_UNIX, []byte("./sock")...), unix.AF_UNIX, "unix:./sock", nil},
		{"unix path that is no text", puppets.Sockaddr(unix.AF_UNIX, []byte("a\nb")...), unix.AF_UNIX, `unix:"a\nb"`, nil},
		{"unix path that fills its field", puppets.Sockaddr(unix.AF_UNIX, bytes.Repeat([]byte("x"), 108)...), unix.AF_UNIX, "unix:" + strings.Repeat("x", 108), nil},
		{"unix, longer than its field", puppets.Sockaddr(unix.AF_UNIX, zeros(109)...), 0, "", ErrLong},
		{"unix, abstract", puppets.Sockaddr(unix.AF_UNIX, []byte("\x00name")...), unix.AF_UNIX, "unix:@name", nil},
		{"unix, abstract with NULs", puppets.Sockaddr(unix.AF_UNIX, []byte("\x00a\x00\x00")...), unix.AF_UNIX, `unix:"@a\x00\x00"`, nil},
		{"unix, no name", puppets.Sockaddr(unix.AF_UNIX), unix.AF_UNIX, "unix:", nil},
		{"AF_NETLINK", append(puppets.Sockaddr(unix.AF_NETLINK), zeros(10)...), 0, "", ErrOtherFamily},
		{"one byte", []byte{2}, 0, "", ErrShort},
		{"nothing", nil, 0, "", ErrShort},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, err := Parse(test.b)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err == nil && (a.String() != test.text || a.Family != test.family) {
				t.Fatalf("got %v of family %d, want %s of family %d", a, a.Family, test.text, test.family)
			}
			if err != nil && a != (Address{}) {
				t.Fatalf("an error, and %v", a)
			}
		})
	}
}

// What a program binds and what getsockname says of it afterwards must be equal as keys.
func TestOfBoundSocket(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		domain int
		sa     unix.Sockaddr
		raw    func(port uint16) []byte
	}{
		{unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, func(port uint16) []byte {
			return append(puppets.Sockaddr(unix.AF_INET, byte(port>>8), byte(port), 127, 0, 0, 1), make([]byte, 8)...)
		}},
		{unix.AF_INET, &unix.SockaddrInet4{}, func(port uint16) []byte {
			return append(puppets.Sockaddr(unix.AF_UNSPEC, byte(port>>8), byte(port)), make([]byte, 12)...)
		}},
		// A scope id that the kernel ignores.
		{unix.AF_INET6, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), ZoneId: 77}, func(port uint16) []byte {
			return puppets.Sockaddr6("::1", port, 77)
		}},
		{unix.AF_INET6, &unix.SockaddrInet6{Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}, func(port uint16) []byte {
			return puppets.Sockaddr6("::ffff:127.0.0.1", port, 0)
		}},
	} {
		fd, err := unix.Socket(test.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			t.Logf("no family %d here: %v", test.domain, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, test.sa); errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Logf("no address %v here: %v", test.sa, err)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		bound, ok := Of(name)
		if !ok || bound.Port() == 0 {
			t.Fatalf("getsockname: %v, %v", bound, ok)
		}
		asked, err := Parse(test.raw(bound.Port()))
		if err != nil {
			t.Fatal(err)
		}
		if asked != bound {
			t.Errorf("bound %+v, getsockname %+v", asked, bound)
		}
	}
}

func TestOfOtherFamily(t *testing.T) {
	t.Parallel()
	for _, sa := range []unix.Sockaddr{nil, &unix.SockaddrUnix{Name: "/run/sock"}, &unix.SockaddrNetlink{}} {
		if a, ok := Of(sa); ok {
			t.Errorf("%T is %v", sa, a)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(puppets.Sockaddr(unix.AF_INET, 0, 80, 1, 2, 3, 4), make([]byte, 8)...))
	f.Add(puppets.Sockaddr(unix.AF_UNSPEC, make([]byte, 14)...))
	f.Add(puppets.Sockaddr6("fe80::1", 80, 2))
	f.Add(puppets.Sockaddr(unix.AF_UNIX, []byte("/run/x\x00")...))
	f.Add(puppets.Sockaddr(unix.AF_UNIX, 0, 'x', 0))
	f.Add(puppets.Sockaddr(unix.AF_VSOCK, 0, 0, 1, 2, 3, 4, 255, 255, 255, 255, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		if err != nil {
			if a != (Address{}) {
				t.Fatalf("error %v and %v", err, a)
			}
			return
		}
		if a.Family == unix.AF_UNIX {
			if a.AddrPort.IsValid() || len(a.Name) > len(b)-2 || a.IsPath() && strings.IndexByte(a.Name, 0) >= 0 || !strings.HasPrefix(string(b[2:]), a.Name) {
				t.Fatalf("%q", a.Name)
			}
			if a.Chosen() != (len(b) == 2) {
				t.Fatalf("%q: the kernel's choice: %v", a.Name, a.Chosen())
			}
			_ = a.String()
			return
		}
		if a.Family == unix.AF_VSOCK {
			if a.AddrPort.IsValid() || a.Name != "" || a.Machine.Port != binary.NativeEndian.Uint32(b[4:]) || a.Machine.CID != binary.NativeEndian.Uint32(b[8:]) ||
				a.Chosen() != (a.Machine.Port == unix.VMADDR_PORT_ANY) {
				t.Fatalf("%+v", a)
			}
			_ = a.String()
			return
		}
		if a.Name != "" || a.Machine != (Machine{}) || a.Port() != binary.BigEndian.Uint16(b[2:]) {
			t.Fatalf("port %d", a.Port())
		}
		var sa unix.Sockaddr
		switch ip := a.AddrPort.Addr(); a.Family {
		case unix.AF_INET:
			if !ip.Is4() {
				t.Fatalf("%v", a)
			}
			sa = &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
		case unix.AF_INET6:
			if !ip.Is6() {
				t.Fatalf("%v", a)
			}
			var zone uint32
			if len(b) >= SizeofIn6 {
				zone = binary.NativeEndian.Uint32(b[24:])
			}
			sa = &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16(), ZoneId: zone}
		default:
			t.Fatalf("family %d", a.Family)
		}
		if again, ok := Of(sa); !ok || again != a {
			t.Fatalf("%v, then %v", a, again)
		}
		if ap, err := netip.ParseAddrPort(a.String()); err != nil || ap != a.AddrPort {
			t.Fatalf("%v does not parse: %v", a, err)
		}
	})
}
