package sockets

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// wildcard is any IPv4 address.
var wildcard = netip.MustParseAddrPort("0.0.0.0:0")

// twoGenerations is a service that listens on what prepare makes, and its successor that has bound nothing yet.
func twoGenerations(t *testing.T, level notify.Level, prepare func(*generation)) (old, next *generation, p *Preserved) {
	t.Helper()
	knocks := NewKnocks()
	old = launch(t, 1, level, nil, knocks, 0)
	prepare(old)
	p = collect(t, old)
	return old, launch(t, 2, level, p, knocks, 0), p
}

func withPort(raw []byte, port uint16) []byte {
	b := append([]byte(nil), raw...)
	b[2], b[3] = byte(port>>8), byte(port)
	return b
}

// Only a bind that asks for the very same thing is answered; every other runs, and the kernel says what it
// would say without huptime.
func TestBindOthers(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var s service
		old, next, p := twoGenerations(t, level, func(g *generation) { s = g.listenOn(t, loopback, 0) })
		same := rawAddress(s.addr)
		port := s.addr.Port()
		long := append(same, make([]byte, 128)...)
		for _, test := range []struct {
			name                   string
			family, kind, protocol int
			raw                    any
			length                 int
			errno                  unix.Errno
		}{
			{"port 0", unix.AF_INET, unix.SOCK_STREAM, 0, withPort(same, 0), 16, 0},
			{"another address", unix.AF_INET, unix.SOCK_STREAM, 0, rawAddress(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)), 16, 0},
			{"a wider address", unix.AF_INET, unix.SOCK_STREAM, 0, rawAddress(netip.AddrPortFrom(wildcard.Addr(), port)), 16, unix.EADDRINUSE},
			{"UDP", unix.AF_INET, unix.SOCK_DGRAM, 0, same, 16, 0},
			{"a mapped address", unix.AF_INET6, unix.SOCK_STREAM, 0, puppets.Sockaddr6("::ffff:127.0.0.1", port, 0), 28, unix.EADDRINUSE},
			{"of another family than its socket", unix.AF_INET6, unix.SOCK_STREAM, 0, same, 16, unix.EINVAL},
			{"an unknown family", unix.AF_INET, unix.SOCK_STREAM, 0, append(puppets.Sockaddr(77), same[2:]...), 16, unix.EAFNOSUPPORT},
			{"cut short", unix.AF_INET, unix.SOCK_STREAM, 0, same, 8, unix.EINVAL},
			{"no length", unix.AF_INET, unix.SOCK_STREAM, 0, same, 0, unix.EINVAL},
			{"a negative length", unix.AF_INET, unix.SOCK_STREAM, 0, same, -1, unix.EINVAL},
			{"too long", unix.AF_INET, unix.SOCK_STREAM, 0, long, 129, unix.EINVAL},
			{"a bad address", unix.AF_INET, unix.SOCK_STREAM, 0, 8, 16, unix.EFAULT},
			{"a unix socket", unix.AF_UNIX, unix.SOCK_STREAM, 0, append(puppets.Sockaddr(unix.AF_UNIX, 0), []byte(s.addr.String())...), 8, 0},
		} {
			fd := next.Must(t, 0, unix.SYS_SOCKET, test.family, test.kind, test.protocol)
			inode := next.inode(t, fd)
			if r := next.Call(t, 0, unix.SYS_BIND, fd, test.raw, test.length); r.Errno != test.errno {
				t.Errorf("%s: %v, want %v", test.name, r.Errno, test.errno)
			}
			if next.inode(t, fd) != inode {
				t.Errorf("%s: another socket is in its place", test.name)
			}
			next.Must(t, 0, unix.SYS_CLOSE, fd)
		}
		if r := next.Call(t, 0, unix.SYS_BIND, 1<<20, same, 16); r.Errno != unix.EBADF {
			t.Errorf("no descriptor: %v", r.Errno)
		}
		pipe, _ := next.pair(t)
		if r := next.Call(t, 0, unix.SYS_BIND, pipe, same, 16); r.Errno != unix.EINVAL {
			t.Errorf("a pair: %v", r.Errno)
		}
		if len(p.Claimed()) != 0 {
			t.Errorf("claimed: %v", p.Claimed())
		}
		// And the address is there still, at its full length too.
		fd := next.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
		next.Must(t, 0, unix.SYS_BIND, fd, long, 128)
		if next.inode(t, fd) != old.inode(t, s.fd) {
			t.Error("the preserved socket was not planted")
		}
	})
}

// A descriptor stays what the new version made it: its number, close-on-exec, and whether it blocks. What the old one has stays as it was.
func TestBindKeepsDescriptor(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		all := []int{0, unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC, unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC}
		for _, flags := range all {
			for _, before := range []int{0, unix.SOCK_NONBLOCK} {
				var first service
				old, next, _ := twoGenerations(t, level, func(g *generation) { first = g.listenOn(t, loopback, before) })
				sockets := openSockets(t, next.PID)
				s := next.listenOn(t, first.addr, flags)
				if planted, same := next.inode(t, s.fd) == old.inode(t, first.fd), flags&unix.SOCK_NONBLOCK == before; planted != same {
					t.Errorf("flags %#x beside %#x: planted is %v", flags, before, planted)
				}
				if after := openSockets(t, next.PID); after != sockets+1 {
					t.Errorf("%d sockets, and then %d", sockets, after)
				}
				if on := next.Must(t, 0, unix.SYS_FCNTL, s.fd, unix.F_GETFD, 0); on&unix.FD_CLOEXEC != 0 != (flags&unix.SOCK_CLOEXEC != 0) {
					t.Errorf("flags %#x: descriptor flags %d", flags, on)
				}
				for g, at := range map[*generation]service{next: s, old: first} {
					wants := flags
					if g == old {
						wants = before
					}
					if on := g.Must(t, 0, unix.SYS_FCNTL, at.fd, unix.F_GETFL, 0); on&unix.O_NONBLOCK != 0 != (wants&unix.SOCK_NONBLOCK != 0) {
						t.Errorf("flags %#x beside %#x: status flags %#x", flags, before, on)
					}
				}
			}
		}
	})
}

// A program that makes its socket blocking, binds it and sets the flag before it listens gets the old one's.
func TestBindThenNonBlocking(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var first service
		old, next, _ := twoGenerations(t, level, func(g *generation) { first = g.listenOn(t, loopback, unix.SOCK_NONBLOCK) })
		s := next.bindTo(t, first.addr, 0)
		next.Must(t, 0, unix.SYS_FCNTL, s.fd, unix.F_SETFL, unix.O_NONBLOCK)
		next.Must(t, 0, unix.SYS_LISTEN, s.fd, 16)
		if next.inode(t, s.fd) != old.inode(t, first.fd) {
			t.Error("the preserved socket was not planted")
		}
	})
}

// Some services bind to try, close, and bind in earnest.
func TestBindAgain(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var s service
		old, next, _ := twoGenerations(t, level, func(g *generation) { s = g.listenOn(t, loopback, 0) })
		want, raw := old.inode(t, s.fd), rawAddress(s.addr)
		for range 3 {
			fd := next.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
			next.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
			if next.inode(t, fd) != want {
				t.Error("not planted")
			}
			// Held: a second one is an address in use, as without huptime.
			second := next.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
			if r := next.Call(t, 0, unix.SYS_BIND, second, raw, len(raw)); r.Errno != unix.EADDRINUSE {
				t.Errorf("bound twice: %v", r.Errno)
			}
			next.Must(t, 0, unix.SYS_CLOSE, second)
			next.Must(t, 0, unix.SYS_CLOSE, fd)
		}
	})
}

func TestBindIPv6(t *testing.T) {
	t.Parallel()
	if fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Skipf("unsupported here: IPv6: %v", err)
	} else {
		err = unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()})
		_ = unix.Close(fd)
		if err != nil {
			t.Skipf("unsupported here: IPv6: %v", err)
		}
	}
	type socket struct {
		address string
		only    byte
	}
	for name, test := range map[string]struct {
		before, after socket
		planted       bool
	}{
		"dual":                     {socket{"::", 0}, socket{"::", 0}, true},
		"IPv6 only":                {socket{"::", 1}, socket{"::", 1}, true},
		"dual, then IPv6 only":     {socket{"::", 0}, socket{"::", 1}, false},
		"IPv6 only, then dual":     {socket{"::", 1}, socket{"::", 0}, false},
		"an address":               {socket{"::1", 0}, socket{"::1", 0}, true},
		"an address, IPv6 only":    {socket{"::1", 1}, socket{"::1", 1}, true},
		"an address, then only":    {socket{"::1", 0}, socket{"::1", 1}, true},
		"a mapped address":         {socket{"::ffff:127.0.0.1", 0}, socket{"::ffff:127.0.0.1", 0}, true},
		"an address and then dual": {socket{"::1", 0}, socket{"::", 0}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bind := func(g *generation, s socket, port uint16) (int, unix.Errno) {
				fd := g.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_STREAM, 0)
				g.Must(t, 0, unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, []byte{s.only, 0, 0, 0}, 4)
				return fd, g.Call(t, 0, unix.SYS_BIND, fd, puppets.Sockaddr6(s.address, port, 0), sockaddr.SizeofIn6).Errno
			}
			var theirs int
			old, next, p := twoGenerations(t, notify.LevelConnections, func(g *generation) {
				fd, errno := bind(g, test.before, 0)
				if errno != 0 {
					t.Fatal(errno)
				}
				g.Must(t, 0, unix.SYS_LISTEN, fd, 1)
				theirs = fd
			})
			if len(p.Sockets()) != 1 {
				t.Fatalf("collected: %v", p.Sockets())
			}
			fd, errno := bind(next, test.after, p.Sockets()[0].Key.Address.Port())
			if planted := next.inode(t, fd) == old.inode(t, theirs); planted != test.planted || planted != (errno == 0) {
				t.Errorf("planted: %v, %v", planted, errno)
			}
		})
	}
}

// Several sockets of one key are claimed in the order in which they were listened on.
func TestBindReusePort(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var inodes []uint64
		var raw []byte
		const sockets = 4
		reusing := func(g *generation) int {
			fd := g.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
			g.Must(t, 0, unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, []byte{1, 0, 0, 0}, 4)
			return fd
		}
		_, next, p := twoGenerations(t, level, func(g *generation) {
			first := g.bindTo(t, loopback, 0)
			g.Must(t, 0, unix.SYS_SETSOCKOPT, first.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, []byte{1, 0, 0, 0}, 4)
			raw = rawAddress(first.addr)
			fds := []int{first.fd}
			for range sockets - 1 {
				fd := reusing(g)
				g.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
				fds = append(fds, fd)
			}
			for i := range fds { // in an order of its own
				fd := fds[(i+2)%sockets]
				g.Must(t, 0, unix.SYS_LISTEN, fd, 1)
				inodes = append(inodes, g.inode(t, fd))
			}
		})
		for i := range sockets {
			fd := reusing(next)
			next.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
			if got := next.inode(t, fd); got != inodes[i] {
				t.Errorf("bind %d got socket %d of %v", i, got, inodes)
			}
		}
		// One worker more than before: a socket of its own, as without huptime.
		fd := reusing(next)
		own := next.inode(t, fd)
		next.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
		if next.inode(t, fd) != own || len(p.Claimed()) != sockets {
			t.Errorf("one too many was planted; claimed: %v", p.Claimed())
		}
	})
}

// A program from the time before families were set.
func TestBindWithoutFamily(t *testing.T) {
	t.Parallel()
	var s service
	old, next, _ := twoGenerations(t, notify.LevelConnections, func(g *generation) { s = g.listenOn(t, wildcard, 0) })
	fd := next.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	next.Must(t, 0, unix.SYS_BIND, fd, append(puppets.Sockaddr(unix.AF_UNSPEC), rawAddress(s.addr)[2:]...), 16)
	if next.inode(t, fd) != old.inode(t, s.fd) {
		t.Error("not planted")
	}
}

// What a service does in another network namespace is left alone.
func TestCollectOtherNamespace(t *testing.T) {
	t.Parallel()
	g := launch(t, 1, notify.LevelConnections, nil, NewKnocks(), 0)
	kept := g.listenOn(t, loopback, 0)
	const elsewhere = 7 // the thread that goes there
	if r := g.Call(t, elsewhere, unix.SYS_UNSHARE, unix.CLONE_NEWNET); r.Errno != 0 {
		t.Skipf("unsupported here: making a network namespace: %v", r.Errno)
	}
	raw := rawAddress(netip.AddrPortFrom(wildcard.Addr(), kept.addr.Port()))
	fd := g.Must(t, elsewhere, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	g.Must(t, elsewhere, unix.SYS_BIND, fd, raw, len(raw))
	g.Must(t, elsewhere, unix.SYS_LISTEN, fd, 1)
	p := collect(t, g)
	if got := p.Sockets(); len(got) != 1 || got[0].Inode != g.inode(t, kept.fd) {
		t.Errorf("collected: %v", got)
	}
}

// What was closed is not collected, and what failed to listen is not.
func TestCollectForgets(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		g := launch(t, 1, level, nil, NewKnocks(), 0)
		closed, kept := g.listenOn(t, loopback, 0), g.listenOn(t, loopback, 0)
		g.Must(t, 0, unix.SYS_CLOSE, closed.fd)
		datagram := g.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
		if r := g.Call(t, 0, unix.SYS_LISTEN, datagram, 1); r.Errno != unix.EOPNOTSUPP {
			t.Errorf("%v", r.Errno)
		}
		if r := g.Call(t, 0, unix.SYS_LISTEN, 1<<20, 1); r.Errno != unix.EBADF {
			t.Errorf("%v", r.Errno)
		}
		for range 2 {
			if got := collect(t, g).Sockets(); len(got) != 1 || got[0].Inode != g.inode(t, kept.fd) {
				t.Errorf("collected: %v", got)
			}
		}
	})
}
