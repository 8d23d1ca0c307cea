package sockets

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// stagedKind is a way to have an address.
type stagedKind struct {
	name           string
	host           string
	kind, protocol int
	option         bool // the service sets SO_REUSEPORT itself
	reuse          bool // and SO_REUSEADDR
}

var stagedKinds = []stagedKind{
	{"tcp", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP, false, false},
	{"tcp6", "::1", unix.SOCK_STREAM, unix.IPPROTO_TCP, false, false},
	{"wildcard", "0.0.0.0", unix.SOCK_STREAM, unix.IPPROTO_TCP, false, false},
	{"wildcard6", "::", unix.SOCK_STREAM, unix.IPPROTO_TCP, false, false},
	{"mapped", "::ffff:127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP, false, false},
	{"mptcp", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_MPTCP, false, false},
	{"mptcp6", "::", unix.SOCK_STREAM, unix.IPPROTO_MPTCP, false, false},
	{"reuseport", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP, true, false},
	{"udp", "127.0.0.1", unix.SOCK_DGRAM, unix.IPPROTO_UDP, false, false},
	{"udp6", "::1", unix.SOCK_DGRAM, unix.IPPROTO_UDP, false, false},
	{"udp wildcard6", "::", unix.SOCK_DGRAM, unix.IPPROTO_UDP, false, false},
}

// unused is an address of the kind that nobody has, nor will have by the kernel's choice: the port is below those that it
// chooses from, of which one that is free now may be a client's of another test the next moment.
func (k stagedKind) unused(t *testing.T) netip.AddrPort {
	t.Helper()
	return unusedAddress(t, netip.MustParseAddr(k.host), k.kind)
}

func unusedAddress(t *testing.T, ip netip.Addr, kind int) netip.AddrPort {
	t.Helper()
	family := unix.AF_INET
	if ip.Is6() {
		family = unix.AF_INET6
	}
	low, _ := ephemeralPorts()
	const tries, privileged = 100, 1024
	for range tries {
		at := netip.AddrPortFrom(ip, privileged+uint16(rand.IntN(int(low-privileged))))
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Bind(fd, addressOf(at).Sockaddr())
		unix.Close(fd)
		if err == nil {
			return at
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// opens makes a socket of the kind in a puppet and binds it.
func (k stagedKind) opens(t *testing.T, p *puppet, at netip.AddrPort) service {
	t.Helper()
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	r := p.Call(t, 0, unix.SYS_SOCKET, family, k.kind|unix.SOCK_NONBLOCK, k.protocol)
	if r.Errno != 0 && k.protocol == unix.IPPROTO_MPTCP {
		t.Skipf("unsupported here: multipath TCP: %v", r.Errno)
	}
	if r.Errno != 0 {
		t.Fatal(r.Errno)
	}
	if k.option {
		p.Must(t, 0, unix.SYS_SETSOCKOPT, r.Value, unix.SOL_SOCKET, unix.SO_REUSEPORT, []byte{1, 0, 0, 0}, 4)
	}
	if k.reuse {
		p.Must(t, 0, unix.SYS_SETSOCKOPT, r.Value, unix.SOL_SOCKET, unix.SO_REUSEADDR, []byte{1, 0, 0, 0}, 4)
	}
	raw := rawAddress(at)
	p.Must(t, 0, unix.SYS_BIND, r.Value, raw, len(raw))
	return service{r.Value, at}
}

func (k stagedKind) listens(t *testing.T, p *puppet, at netip.AddrPort) service {
	t.Helper()
	s := k.opens(t, p, at)
	if k.kind == unix.SOCK_STREAM {
		p.Must(t, 0, unix.SYS_LISTEN, s.fd, 4096)
	}
	return s
}

// target is what a client connects to.
func (k stagedKind) target(at netip.AddrPort) netip.AddrPort {
	ip := at.Addr().Unmap()
	if ip.IsUnspecified() {
		ip = netip.IPv6Loopback()
		if at.Addr().Is4() {
			ip = netip.MustParseAddr("127.0.0.1")
		}
	}
	return netip.AddrPortFrom(ip, at.Port())
}

func (k stagedKind) network() string {
	if k.kind == unix.SOCK_DGRAM {
		return "udp"
	}
	return "tcp"
}

// takes takes everything that waits in a socket of a puppet, and counts it.
func (k stagedKind) takes(t *testing.T, p *puppet, s service) (n int) {
	t.Helper()
	for {
		var r puppets.Result
		if k.kind == unix.SOCK_DGRAM {
			r = p.Call(t, 0, unix.SYS_RECVFROM, s.fd, make([]byte, 8), 8, 0, 0, 0)
		} else if r = p.Call(t, 0, unix.SYS_ACCEPT4, s.fd, 0, 0, 0); r.Errno == 0 {
			p.Must(t, 0, unix.SYS_CLOSE, r.Value)
		}
		if r.Errno == unix.EAGAIN {
			return n
		}
		if r.Errno != 0 {
			t.Fatal(r.Errno)
		}
		n++
	}
}

// crowd are clients that connect, or send, one after the other until they are stopped.
type crowd struct {
	stop   chan struct{}
	wait   sync.WaitGroup
	sent   atomic.Int64
	failed atomic.Int64
}

func (k stagedKind) crowd(at netip.AddrPort) *crowd {
	c := &crowd{stop: make(chan struct{})}
	for range 3 {
		c.wait.Add(1)
		go func() { // ends with over
			defer c.wait.Done()
			for {
				select {
				case <-c.stop:
					return
				default:
				}
				conn, err := net.DialTimeout(k.network(), k.target(at).String(), patience)
				if err != nil {
					c.failed.Add(1)
					continue
				}
				if k.kind == unix.SOCK_DGRAM {
					if _, err := conn.Write([]byte("x")); err != nil {
						c.failed.Add(1)
					} else {
						c.sent.Add(1)
					}
					time.Sleep(10 * time.Millisecond)
				} else {
					_ = conn.(*net.TCPConn).SetLinger(0)
					c.sent.Add(1)
				}
				conn.Close()
				time.Sleep(5 * time.Millisecond) // the queues have an end, and nobody empties them
			}
		}()
	}
	return c
}

// until goes on until so many more have come.
func (c *crowd) until(t *testing.T, more int64) {
	t.Helper()
	want := c.sent.Load() + more
	eventually(t, "clients come", func() bool { return c.sent.Load() >= want })
}

func (c *crowd) over(t *testing.T) int {
	t.Helper()
	close(c.stop)
	c.wait.Wait()
	if n := c.failed.Load(); n > 0 {
		t.Errorf("%d clients were refused", n)
	}
	return int(c.sent.Load())
}

func addressOf(a netip.AddrPort) sockaddr.Address {
	family := uint16(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	return sockaddr.Address{Family: family, AddrPort: a}
}
