package sockets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"huptime/internal/puppets"
	"huptime/notify"
)

// launchStaged starts a generation with sockets of its own.
func launchStaged(t *testing.T, number int, from *Preserved, knocks *Knocks) *generation {
	t.Helper()
	return launchPrepared(t, number, notify.LevelListeners, from, knocks, 0, func(tr *Tracker) {
		if err := tr.Stage(); err != nil {
			t.Fatal(err)
		}
	})
}

// stagedKind is a way to have an address.
type stagedKind struct {
	name           string
	host           string
	kind, protocol int
	option         bool // the service sets SO_REUSEPORT itself
}

var stagedKinds = []stagedKind{
	{"tcp", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP, false},
	{"tcp6", "::1", unix.SOCK_STREAM, unix.IPPROTO_TCP, false},
	{"wildcard", "0.0.0.0", unix.SOCK_STREAM, unix.IPPROTO_TCP, false},
	{"wildcard6", "::", unix.SOCK_STREAM, unix.IPPROTO_TCP, false},
	{"mapped", "::ffff:127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP, false},
	{"mptcp", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_MPTCP, false},
	{"mptcp6", "::", unix.SOCK_STREAM, unix.IPPROTO_MPTCP, false},
	{"reuseport", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP, true},
	{"udp", "127.0.0.1", unix.SOCK_DGRAM, unix.IPPROTO_UDP, false},
	{"udp6", "::1", unix.SOCK_DGRAM, unix.IPPROTO_UDP, false},
	{"udp wildcard6", "::", unix.SOCK_DGRAM, unix.IPPROTO_UDP, false},
}

// unused is an address of the kind that nobody has.
func (k stagedKind) unused(t *testing.T) netip.AddrPort {
	t.Helper()
	ip := netip.MustParseAddr(k.host)
	family := unix.AF_INET
	if ip.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, k.kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, (Address{Family: uint16(family), AddrPort: netip.AddrPortFrom(ip, 0)}).sockaddr()); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address, _ := SockaddrOf(name)
	return address.AddrPort
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

// A staged generation gets no client from before its listen to the switch, and all from then on; and again on the way back.
func TestStage(t *testing.T) {
	for _, kind := range stagedKinds {
		for _, count := range []int{1, 2, 3} {
			if count > 1 && !kind.option {
				continue
			}
			t.Run(fmt.Sprint(kind.name, count), func(t *testing.T) {
				knocks := NewKnocks()
				at := kind.unused(t)
				old := launchStaged(t, 1, nil, knocks)
				var olds, news []service
				for range 2*count - 1 { // it shrinks, too
					olds = append(olds, kind.listens(t, old.puppet, at))
				}
				preserved := collect(t, old)
				next := launchStaged(t, 2, preserved, knocks)
				sum := func(p *puppet, list []service) (n int) {
					for _, s := range list {
						n += kind.takes(t, p, s)
					}
					return n
				}
				clients := kind.crowd(at)
				clients.until(t, 20)
				for range count {
					news = append(news, kind.opens(t, next.puppet, at))
				}
				clients.until(t, 20)
				if kind.kind == unix.SOCK_STREAM {
					for _, s := range news {
						next.Must(t, 0, unix.SYS_LISTEN, s.fd, 4096)
					}
				}
				clients.until(t, 50)
				if why := next.tracker.PlantedInstead(); len(why) > 0 || len(next.tracker.Staged()) != len(olds) {
					t.Fatalf("planted: %v; %d are staged", why, len(next.tracker.Staged()))
				}
				if n := sum(next.puppet, news); n > 0 {
					t.Errorf("%d clients came to the new generation before the switch", n)
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				// Who was on its way at the moment of the switch is in some queue by now.
				clients.until(t, 6)
				a := sum(old.puppet, olds)
				clients.until(t, 50)
				if n := sum(old.puppet, olds); n > 0 {
					t.Errorf("%d clients came to the old generation after the switch", n)
				}
				if _, err := next.tracker.SwitchBack(t.Context()); err != nil {
					t.Fatal(err)
				}
				clients.until(t, 6)
				b := sum(next.puppet, news)
				clients.until(t, 50)
				if n := sum(next.puppet, news); n > 0 {
					t.Errorf("%d clients came to the new generation after the way back", n)
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				sent := clients.over(t)
				a += sum(old.puppet, olds)
				b += sum(next.puppet, news)
				if a+b != sent {
					t.Errorf("%d clients, of which %d reached the old generation and %d the new one", sent, a, b)
				}
				// The end of the old one: nobody is refused, and the kernel chooses again.
				clients = kind.crowd(at)
				clients.until(t, 20)
				_ = unix.Kill(-old.PID, unix.SIGKILL)
				eventually(t, "the old generation is over", func() bool { return len(group(old.PID)) == 0 })
				preserved.Close()
				clients.until(t, 50)
				sent = clients.over(t)
				if n := sum(next.puppet, news); n != sent {
					t.Errorf("%d of %d clients reached the new generation", n, sent)
				}
				for range 64 * count {
					ask(t, Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				for i, s := range news {
					if kind.takes(t, next.puppet, s) == 0 {
						t.Errorf("socket %d gets nothing when the old ones are gone", i)
					}
				}
			})
		}
	}
}

func addressOf(a netip.AddrPort) Address {
	family := uint16(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	return Address{Family: family, AddrPort: a}
}

// A probe reaches the new generation's own socket and no other.
func TestDialProbe(t *testing.T) {
	const probes = 50
	for _, kind := range stagedKinds {
		t.Run(kind.name, func(t *testing.T) {
			knocks := NewKnocks()
			at := kind.unused(t)
			old := launchStaged(t, 1, nil, knocks)
			was := kind.listens(t, old.puppet, at)
			next := launchStaged(t, 2, collect(t, old), knocks)
			is := kind.opens(t, next.puppet, at)
			if kind.kind == unix.SOCK_STREAM {
				if _, err := next.tracker.DialProbe(t.Context(), kind.network(), kind.target(at).String()); !errors.Is(err, ErrNotListening) {
					t.Fatalf("a probe before listen: %v", err)
				}
				next.Must(t, 0, unix.SYS_LISTEN, is.fd, 4096)
			}
			clients := kind.crowd(at)
			for i := range probes {
				c, err := next.tracker.DialProbe(t.Context(), kind.network(), kind.target(at).String())
				if err != nil {
					t.Fatal(i, err)
				}
				if kind.kind == unix.SOCK_DGRAM {
					if _, err := c.Write([]byte("p")); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
			}
			clients.until(t, 20)
			sent := clients.over(t)
			if n := kind.takes(t, next.puppet, is); n != probes {
				t.Errorf("%d of %d probes reached the new generation", n, probes)
			}
			if n := kind.takes(t, old.puppet, was); n != sent {
				t.Errorf("%d of %d clients reached the old generation", n, sent)
			}
		})
	}
}

// A second probe waits for the first, no longer than its context.
func TestDialProbeTwice(t *testing.T) {
	kind := stagedKinds[0]
	at := kind.unused(t)
	g := launchStaged(t, 1, nil, NewKnocks())
	kind.listens(t, g.puppet, at)
	first, err := g.tracker.DialProbe(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := g.tracker.DialProbe(ctx, "tcp", at.String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := g.tracker.DialProbe(t.Context(), "tcp", fmt.Sprint(":", at.Port()))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, io.LimitReader(second, 0))
	second.Close()
}
