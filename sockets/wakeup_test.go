package sockets

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// The kernel tells one of those who wait with EPOLLEXCLUSIVE of a client. Where that one is gated before it has accepted, the new generation is
// told all the same.
func TestWakeAtTheGate(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		wait := func(g *generation, fd int) *puppets.Pending {
			set := g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, fd, abi.Native.EpollEvent(unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 1))
			tid := g.Must(t, 1, unix.SYS_GETTID)
			told := g.Begin(t, 1, unix.SYS_EPOLL_PWAIT, set, make([]byte, 64), 4, -1, 0, 0)
			waitsIn(t, g.puppet, tid, unix.SYS_EPOLL_PWAIT)
			return told
		}
		var old *puppets.Pending
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) { old = wait(g, s.fd) })
		successor := wait(r.new, r.at.fd)
		client := dial(t, r.addr)
		if got := old.Wait(t); got.Value != 1 {
			t.Fatalf("the old generation is told of %d events, %v", got.Value, got.Errno)
		}
		gated, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		wake := r.preserved.Wake()
		go func() { wake(gated); close(over) }()
		r.gate(t)
		cancel()
		if got := r.old.Call(t, 0, unix.SYS_ACCEPT4, r.fd, 0, 0, 0); got.Errno != unix.EAGAIN {
			t.Fatalf("the gated generation accepts: %d, %v", got.Value, got.Errno)
		}
		if got := successor.Wait(t); got.Value != 1 {
			t.Fatalf("the new generation is told of %d events, %v", got.Value, got.Errno)
		}
		accepted := r.new.Must(t, 0, unix.SYS_ACCEPT4, r.at.fd, 0, 0, 0)
		r.new.Must(t, 0, unix.SYS_WRITE, accepted, []byte("hello"), 5)
		client.SetDeadline(time.Now().Add(patience))
		if n, err := client.Read(make([]byte, 8)); n != 5 || err != nil {
			t.Errorf("the client got %d bytes, %v", n, err)
		}
		<-over
	})
}

// A client that nobody was woken for: somebody is, by one more connection.
func TestWake(t *testing.T) {
	t.Parallel()
	for _, listen := range append([]string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"}, linkLocals()...) {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			var how net.ListenConfig
			how.SetMultipathTCP(!strings.HasPrefix(listen, "[fe80")) // those forget the interface; see rescope
			l, err := how.Listen(t.Context(), "tcp", listen)
			if err != nil {
				t.Skip("unsupported here:", err)
			}
			defer l.Close()
			raw, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			fd, err := unix.FcntlInt(raw.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			key, err := sockaddr.Describe(fd, unix.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			name, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			address, _ := sockaddr.Of(name)
			s := &Socket{Key: key.At(address), fd: fd, claimed: true}
			p := &Preserved{sockets: []*Socket{s}}
			ctx, cancel := context.WithCancel(context.Background())
			over := make(chan struct{})
			wake := p.Wake()
			p.ReleaseClaimed()
			go func() { wake(ctx); close(over) }()
			waiting := func() uint32 { q := queue{fd: int(raw.Fd()), key: key}; return q.waiting() }

			time.Sleep(4 * longestWakePause) // nobody waits: nobody is woken
			if n := waiting(); n != 0 {
				t.Errorf("%d connections out of nowhere", n)
			}
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for limit := time.Now().Add(patience); waiting() < 2; time.Sleep(time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatal("nobody was woken")
				}
			}
			cancel()
			<-over
			first, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer first.Close()
			if first.RemoteAddr().String() != c.LocalAddr().String() {
				t.Errorf("the first is %s, not the client", first.RemoteAddr())
			}
			second, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("the second has %d bytes", n)
			}
		})
	}
}

// linkLocals lists the link-local addresses of this machine, to listen on; to such a one nobody connects who does not
// name the interface (fault D10).
func linkLocals() (list []string) {
	devices, _ := net.Interfaces()
	for _, device := range devices {
		addresses, _ := device.Addrs()
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil && n.IP.IsLinkLocalUnicast() {
				list = append(list, fmt.Sprintf("[%s%%%s]:0", n.IP, device.Name))
			}
		}
	}
	return list
}

// TestFaultD10LinkLocal: the wake-up names the interface of a link-local address.
func TestFaultD10LinkLocal(t *testing.T) {
	t.Parallel()
	address := sockaddr.Address{Family: unix.AF_INET6, AddrPort: netip.MustParseAddrPort("[fe80::1%7]:80")}
	q := queue{key: sockaddr.Key{Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP}.At(address)}
	to := q.reach()
	if len(to) != 1 {
		t.Fatalf("%v", to)
	}
	ip := address.AddrPort.Addr().As16()
	if sa, ok := to[0].(*unix.SockaddrInet6); !ok || sa.ZoneId != 7 || sa.Port != 80 || sa.Addr != ip {
		t.Errorf("%+v", to[0])
	}
}

func TestWakeUnix(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"unix", "unixpacket"} {
		for _, name := range []string{filepath.Join(t.TempDir(), "s"), "\x00huptime-wake-" + network + strconv.Itoa(unix.Getpid())} {
			kind := map[string]int{"unix": unix.SOCK_STREAM, "unixpacket": unix.SOCK_SEQPACKET}[network]
			g := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
			fd := g.listenUnix(t, kind|unix.SOCK_NONBLOCK, name)
			p := collect(t, g)
			p.Sockets()[0].claimed = true
			puppets.DialUnix(t, network, name)
			over, cancel := context.WithCancel(t.Context())
			cancel()
			p.Wake()(over)
			g.Must(t, 0, unix.SYS_ACCEPT4, fd, 0, 0, 0)
			// Looks that find the client still there make more connections than one.
			woken := g.Must(t, 0, unix.SYS_ACCEPT4, fd, 0, 0, 0)
			readsEnd(t, g.puppet, 0, woken)
			if name[0] != 0 {
				g.unlink(t, name)
			}
		}
	}
}
