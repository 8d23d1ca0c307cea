package sockets

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// receiveOn makes and binds a datagram socket.
func (p *puppet) receiveOn(t *testing.T, addr netip.AddrPort, flags int) service {
	t.Helper()
	fd := p.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|flags, 0)
	raw := rawAddress(addr)
	p.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
	name := p.Call(t, 0, unix.SYS_GETSOCKNAME, fd, make([]byte, sockaddr.SizeofStorage), []byte{sockaddr.SizeofStorage, 0, 0, 0})
	bound, err := sockaddr.Parse(name.Memory[1][:sockaddr.SizeofIn6])
	if name.Errno != 0 || err != nil {
		t.Fatal(name.Errno, err)
	}
	return service{fd, bound.AddrPort}
}

// freeDatagramPort is one that nobody has just now: a service's own choice of port 0 would not be preserved.
func freeDatagramPort(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// restartDatagrams is restart for a service with one UDP socket.
func restartDatagrams(t *testing.T, level notify.Level, flags int, prepare func(*generation, service)) *restarted {
	t.Helper()
	knocks := NewKnocks()
	r := &restarted{old: launch(t, 1, level, nil, knocks, 0)}
	r.service = r.old.receiveOn(t, freeDatagramPort(t), flags)
	if prepare != nil {
		prepare(r.old, r.service)
	}
	r.preserved = collect(t, r.old)
	if n := len(r.preserved.Sockets()); n != 1 {
		t.Fatalf("%d sockets were collected", n)
	}
	r.new = launch(t, 2, level, r.preserved, knocks, 0)
	r.at = r.new.receiveOn(t, r.addr, flags)
	if want, got := r.old.inode(t, r.fd), r.new.inode(t, r.at.fd); got != want {
		t.Fatalf("the new generation has socket %d, want %d", got, want)
	}
	return r
}

// send sends a datagram from a new client.
func send(t *testing.T, to netip.AddrPort, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return c
}

// A datagram that waits in the queue stays there for the new generation; one that nobody has claimed is the old one's.
func TestDatagramsStay(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restartDatagrams(t, level, unix.SOCK_NONBLOCK, nil)
		send(t, r.addr, "waits")
		r.gate(t)
		if got := r.old.Call(t, 0, unix.SYS_RECVFROM, r.fd, make([]byte, 16), 16, 0, 0, 0); got.Errno != unix.EAGAIN {
			t.Errorf("the gated generation received %d bytes, %v", got.Value, got.Errno)
		}
		got := r.new.Call(t, 0, unix.SYS_RECVFROM, r.at.fd, make([]byte, 16), 16, 0, 0, 0)
		if got.Errno != 0 || string(got.Memory[1][:got.Value]) != "waits" {
			t.Errorf("the new generation received %d bytes, %v", got.Value, got.Errno)
		}
	})
}

// A thread that waits in recvfrom waits on, on the placeholder.
func TestDatagramsBlocked(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var waiting *puppets.Pending
		r := restartDatagrams(t, level, 0, func(g *generation, s service) {
			tid := g.Must(t, 1, unix.SYS_GETTID)
			waiting = g.Begin(t, 1, unix.SYS_RECVFROM, s.fd, make([]byte, 16), 16, 0, 0, 0)
			waitsIn(t, g.puppet, tid, unix.SYS_RECVFROM)
		})
		if s := lookAt(group(r.old.PID), map[uint64]struct{}{r.old.inode(t, r.fd): {}}); len(s.waiting) != 1 {
			t.Error("nobody is seen to wait on the socket")
		}
		r.gate(t)
		if r.old.inode(t, r.fd) == r.new.inode(t, r.at.fd) {
			t.Error("the old generation has the socket still")
		}
		for range 10 {
			send(t, r.addr, "hello")
			got := r.new.Call(t, 0, unix.SYS_RECVFROM, r.at.fd, make([]byte, 16), 16, 0, 0, 0)
			if got.Errno != 0 || got.Value != 5 {
				t.Fatalf("the new generation received %d bytes, %v", got.Value, got.Errno)
			}
		}
		select {
		case got := <-waiting.Results():
			t.Errorf("the old generation's recvfrom returned %d, %v", got.Value, got.Errno)
		default:
		}
	})
}

// A program that waits in epoll is told of no datagram any more, and keeps the socket: what it still answers must come from there.
func TestDatagramsEpoll(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var set int
		r := restartDatagrams(t, level, unix.SOCK_NONBLOCK, func(g *generation, s service) {
			set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			event := abi.Native.EpollEvent(unix.EPOLLIN, uint64(s.fd))
			g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, event)
		})
		client := send(t, r.addr, "question")
		from := make([]byte, 16)
		got := r.old.Call(t, 0, unix.SYS_RECVFROM, r.fd, make([]byte, 16), 16, 0, from, []byte{16, 0, 0, 0})
		if got.Errno != 0 {
			t.Fatal(got.Errno)
		}
		r.gate(t)
		send(t, r.addr, "later")
		events := r.old.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 64), 4, 20, 0, 0)
		if events.Errno != 0 || events.Value != 0 {
			t.Errorf("the gated generation is told of %d events, %v", events.Value, events.Errno)
		}
		peer := got.Memory[4]
		r.old.Must(t, 0, unix.SYS_SENDTO, r.fd, []byte("answer"), 6, 0, peer, len(peer))
		buf := make([]byte, 16)
		client.SetDeadline(time.Now().Add(patience))
		if n, err := client.Read(buf); err != nil || string(buf[:n]) != "answer" {
			t.Errorf("the client got %q, %v", buf[:n], err)
		}
		stopped := 0
		err := r.old.tracker.AwaitDrained(t.Context(), r.preserved.Claimed, func() []int { return group(r.new.PID) }, func() { stopped++ })
		if err != nil || stopped != 1 {
			t.Errorf("%v, stopped %d times", err, stopped)
		}
	})
}

// A socket on the same port that has a peer stays with its generation, and the drain waits for it.
func TestDatagramsConversation(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var talk int
		client := freeDatagramPort(t)
		r := restartDatagrams(t, level, unix.SOCK_NONBLOCK, func(g *generation, s service) {
			on := []byte{1, 0, 0, 0}
			g.Must(t, 0, unix.SYS_SETSOCKOPT, s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on, 4)
			talk = g.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
			g.Must(t, 0, unix.SYS_SETSOCKOPT, talk, unix.SOL_SOCKET, unix.SO_REUSEADDR, on, 4)
			raw, peer := rawAddress(s.addr), rawAddress(client)
			g.Must(t, 0, unix.SYS_BIND, talk, raw, len(raw))
			g.Must(t, 0, unix.SYS_CONNECT, talk, peer, len(peer))
		})
		r.gate(t)
		r.outstanding(t, 1)
		r.old.Must(t, 0, unix.SYS_CLOSE, talk)
		r.outstanding(t, 0)
	})
}

// Resolvers bind a socket for each question: the record of them does not grow.
func TestDatagramsSwept(t *testing.T) {
	g := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	service := g.receiveOn(t, freeDatagramPort(t), 0)
	for range 3 * minSweep {
		s := g.receiveOn(t, freeDatagramPort(t), 0)
		g.Must(t, 0, unix.SYS_CLOSE, s.fd)
	}
	eventually(t, "closed sockets are forgotten", func() bool { return len(g.tracker.listeningInodes()) <= 2*minSweep })
	p := collect(t, g)
	if list := p.Sockets(); len(list) != 1 || list[0].String() != "udp://127.0.0.1:"+strconv.Itoa(int(service.addr.Port())) {
		t.Errorf("collected %v", list)
	}
}

// While no generation serves more may wait; then the service's own depth holds again.
func TestDatagramsDeepened(t *testing.T) {
	g := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	g.receiveOn(t, freeDatagramPort(t), 0)
	p := collect(t, g)
	s := p.Sockets()[0]
	room := func() int {
		n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := room()
	for range 2 {
		if err := p.Deepen(); err != nil {
			t.Fatal(err)
		}
	}
	if deep := room(); deep <= before {
		t.Errorf("room for %d bytes, and before for %d", deep, before)
	}
	s.undeepen() // a moment later, for something might wait in it
	for limit := time.Now().Add(patience); room() != before; time.Sleep(shallowInterval) {
		if time.Now().After(limit) {
			t.Fatalf("room for %d bytes afterwards, want %d", room(), before)
		}
	}
}
