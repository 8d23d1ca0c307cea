package sockets

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

// restarted is a service in the middle of a restart: both generations have the socket.
type restarted struct {
	old, new  *generation
	preserved *Preserved
	service   // of the old generation
	at        service
}

// restart does what package restart does, up to the gate.
func restart(t *testing.T, level notify.Level, flags, workers int, prepare func(*generation, service)) *restarted {
	t.Helper()
	r := &restarted{}
	knocks := NewKnocks()
	r.old = launch(t, 1, level, nil, knocks, workers)
	r.service = r.old.listenOn(t, loopback, flags)
	if prepare != nil {
		prepare(r.old, r.service)
	}
	r.preserved = collect(t, r.old)
	if n := len(r.preserved.Sockets()); n != 1 {
		t.Fatalf("%d sockets were collected", n)
	}
	r.new = launch(t, 2, level, r.preserved, knocks, 0)
	r.at = r.new.listenOn(t, r.service.addr, flags)
	if want, got := r.old.inode(t, r.fd), r.new.inode(t, r.at.fd); got != want {
		t.Fatalf("the new generation has socket %d, want %d", got, want)
	}
	return r
}

func collect(t *testing.T, g *generation) *Preserved {
	t.Helper()
	p, err := g.tracker.Collect(group(g.PID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (r *restarted) gate(t *testing.T) {
	t.Helper()
	if err := r.old.tracker.Gate(t.Context(), r.preserved.Claimed()); err != nil {
		t.Fatal(err)
	}
	r.preserved.ReleaseClaimed()
}

// openSockets counts those of a puppet; the Go runtime opens other descriptors when it likes.
func openSockets(t *testing.T, pid int) (count int) {
	t.Helper()
	list, err := proc.Descriptors(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if _, ok := proc.SocketInode(d.Link); ok {
			count++
		}
	}
	return count
}

func (r *restarted) outstanding(t *testing.T, want int) {
	t.Helper()
	got, err := r.old.tracker.Outstanding(func() []int { return group(r.new.PID) })
	if err != nil || got != want {
		t.Fatalf("%d outstanding connections, %v; want %d", got, err, want)
	}
}

// blocked makes a thread wait in accept, and returns when it does.
func blocked(t *testing.T, p *puppet, thread, fd int) *puppets.Pending {
	t.Helper()
	tid := p.Must(t, thread, unix.SYS_GETTID)
	call := p.Begin(t, thread, unix.SYS_ACCEPT4, fd, 0, 0, 0)
	waitsIn(t, p, tid, unix.SYS_ACCEPT4)
	return call
}

// waitsIn waits until a thread sleeps in a call. One whose notification is being answered looks the same;
// it is looked at until it stays so.
func waitsIn(t *testing.T, p *puppet, tid int, number int64) {
	t.Helper()
	seen := 0
	eventually(t, "the thread waits in its call", func() bool {
		call, err := proc.ReadSyscall(p.PID, tid)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
		if seen++; err != nil || call.Running || call.Number != number {
			seen = 0
		}
		return seen > 5
	})
}

// serves makes a client's connection, which the puppet must get.
func serves(t *testing.T, p *puppet, s service) (client *net.TCPConn, accepted int) {
	t.Helper()
	client = dial(t, s.addr)
	eventually(t, "a connection is accepted", func() bool {
		r := p.Call(t, 0, unix.SYS_ACCEPT4, s.fd, 0, 0, 0)
		accepted = r.Value
		if r.Errno != 0 {
			return false
		}
		// It may be a phantom, of which a way back has left one.
		if r := p.Call(t, 0, unix.SYS_RECVFROM, accepted, make([]byte, 1), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0); r.Errno == 0 && r.Value == 0 {
			p.Must(t, 0, unix.SYS_CLOSE, accepted)
			return false
		}
		return true
	})
	p.Must(t, 0, unix.SYS_WRITE, accepted, []byte("hello"), 5)
	buf := make([]byte, 8)
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	return client, accepted
}

// readsEnd checks that what a puppet has accepted is a connection that its peer has closed.
func readsEnd(t *testing.T, p *puppet, thread, fd int) {
	t.Helper()
	if r := p.Call(t, thread, unix.SYS_READ, fd, make([]byte, 8), 8); r.Errno != 0 || r.Value != 0 {
		t.Errorf("read from a phantom: %d, %v", r.Value, r.Errno)
	}
	p.Must(t, thread, unix.SYS_CLOSE, fd)
}

// eachLevel runs the test for each level: what a service sees must be the same.
func eachLevel(t *testing.T, test func(*testing.T, notify.Level)) {
	t.Parallel()
	for _, level := range []notify.Level{notify.LevelConnections, notify.LevelListeners, notify.LevelCalls} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			test(t, level)
		})
	}
}

func TestGateBlockedAccept(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const threads = 4
		var waiting []*puppets.Pending
		r := restart(t, level, 0, 0, func(g *generation, s service) {
			for i := range threads {
				waiting = append(waiting, blocked(t, g.puppet, i+1, s.fd))
			}
		})
		r.gate(t)
		for range 2 * threads {
			serves(t, r.new.puppet, r.at)
		}
		r.outstanding(t, 0)
		getPhantoms(t, r, map[*puppet][]*puppets.Pending{r.old.puppet: waiting})
	})
}

// getPhantoms checks that each waiting thread, by its number less one, gets a phantom, so that it can see that
// it is to end, and that those who accept again never get a client.
func getPhantoms(t *testing.T, r *restarted, waiting map[*puppet][]*puppets.Pending) {
	t.Helper()
	for p, calls := range waiting {
		for i, call := range calls {
			got := call.Wait(t)
			if got.Errno != 0 {
				t.Fatalf("the accept of thread %d: %v", i+1, got.Errno)
			}
			readsEnd(t, p, i+1, got.Value)
			calls[i] = p.Begin(t, i+1, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
		}
	}
	for range 4 {
		serves(t, r.new.puppet, r.at)
	}
	r.outstanding(t, 0)
	for p, calls := range waiting {
		for i, call := range calls {
			if call.Returned() {
				// Level listeners makes a phantom more, for threads that it saw busy.
				readsEnd(t, p, i+1, call.Wait(t).Value)
			}
		}
	}
}

func TestGateBlockedWorkers(t *testing.T) {
	const workers = restartBatch + 2 // more than are stopped at a time
	eachLevel(t, func(t *testing.T, level notify.Level) {
		waiting := make(map[*puppet][]*puppets.Pending)
		r := restart(t, level, 0, workers, func(g *generation, s service) {
			for range workers {
				w := g.worker(t, s.fd)
				waiting[w] = []*puppets.Pending{blocked(t, w, 1, s.fd)}
			}
			// The master waits as well, as none does, and has handed the socket to all.
			waiting[g.puppet] = []*puppets.Pending{blocked(t, g.puppet, 1, s.fd)}
		})
		r.gate(t)
		for range 8 {
			serves(t, r.new.puppet, r.at)
		}
		r.outstanding(t, 0)
		getPhantoms(t, r, waiting)
	})
}

func TestGateNonBlocking(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, nil)
		before := openSockets(t, r.old.PID)
		r.gate(t)
		if after := openSockets(t, r.old.PID); after != before {
			t.Errorf("the old generation had %d sockets before it was gated, and has %d", before, after)
		}
		serves(t, r.new.puppet, r.at)
		dial(t, r.addr)
		for range 3 {
			if got := r.old.Call(t, 0, unix.SYS_ACCEPT4, r.fd, 0, 0, 0); got.Errno != unix.EAGAIN {
				t.Errorf("accept of a gated generation: %d, %v", got.Value, got.Errno)
			}
		}
		r.outstanding(t, 0)
		r.new.Must(t, 0, unix.SYS_ACCEPT4, r.at.fd, 0, 0, 0)
	})
}

// A single-threaded server of old: poll, then a blocking accept.
func TestGatePollThenAccept(t *testing.T) {
	t.Parallel()
	var polling *puppets.Pending
	r := restart(t, notify.LevelConnections, 0, 0, func(g *generation, s service) {
		tid := g.Must(t, 1, unix.SYS_GETTID)
		polling = g.Begin(t, 1, unix.SYS_PPOLL, []byte{byte(s.fd), 0, 0, 0, unix.POLLIN, 0, 0, 0}, 1, 0, 0, 8)
		waitsIn(t, g.puppet, tid, unix.SYS_PPOLL)
	})
	r.gate(t)
	dial(t, r.addr) // not accepted yet: it wakes both generations up
	if got := polling.Wait(t); got.Value != 1 {
		t.Fatalf("poll: %d, %v", got.Value, got.Errno)
	}
	got := r.old.Call(t, 1, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
	if got.Errno != 0 {
		t.Fatal(got.Errno)
	}
	readsEnd(t, r.old.puppet, 1, got.Value)
	r.outstanding(t, 0)
	// The client is in the queue still, and the new generation's.
	r.new.Must(t, 0, unix.SYS_ACCEPT4, r.at.fd, 0, 0, 0)
	serves(t, r.new.puppet, r.at)
}

// Under level listeners a poller waits on the placeholder from then on, and sees nothing.
func TestGatePollListeners(t *testing.T) {
	t.Parallel()
	var polling *puppets.Pending
	var tid int
	r := restart(t, notify.LevelListeners, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
		tid = g.Must(t, 1, unix.SYS_GETTID)
		polling = g.Begin(t, 1, unix.SYS_PPOLL, []byte{byte(s.fd), 0, 0, 0, unix.POLLIN, 0, 0, 0}, 1, 0, 0, 8)
		waitsIn(t, g.puppet, tid, unix.SYS_PPOLL)
	})
	r.gate(t)
	for range 4 {
		serves(t, r.new.puppet, r.at)
	}
	if polling.Returned() {
		t.Errorf("poll: %+v", polling.Wait(t))
	}
}

func TestGateEpoll(t *testing.T) {
	for name, events := range map[string]uint32{"shared": unix.EPOLLIN, "exclusive": unix.EPOLLIN | unix.EPOLLEXCLUSIVE, "edge": unix.EPOLLIN | unix.EPOLLET} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level notify.Level) {
				var waiting *puppets.Pending
				var pipe [2]int
				var set int
				r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
					set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
					pipe[0], pipe[1] = g.pair(t)
					g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(events, 7))
					g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, pipe[0], abi.Native.EpollEvent(unix.EPOLLIN, 8))
					tid := g.Must(t, 1, unix.SYS_GETTID)
					waiting = g.Begin(t, 1, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, -1, 0, 8)
					waitsIn(t, g.puppet, tid, unix.SYS_EPOLL_PWAIT)
				})
				r.gate(t)
				for range 4 {
					serves(t, r.new.puppet, r.at)
				}
				dial(t, r.addr)
				if waiting.Returned() {
					t.Errorf("woken up in vain: %+v", waiting.Wait(t))
				}
				// Everything else in the set goes on.
				r.old.Must(t, 0, unix.SYS_WRITE, pipe[1], []byte{1}, 1)
				if got := waiting.Wait(t); got.Value != 1 || got.Memory[1][4] != 8 {
					t.Errorf("epoll_pwait: %+v", got)
				}
				// What a graceful server does next.
				r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, r.fd, 0)
				r.old.Must(t, 0, unix.SYS_CLOSE, r.fd)
				r.outstanding(t, 0)
			})
		})
	}
}

func (p *puppet) pair(t *testing.T) (int, int) {
	t.Helper()
	r := p.Call(t, 0, unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, make([]byte, 8))
	if r.Errno != 0 {
		t.Fatal(r.Errno)
	}
	return int(r.Memory[3][0]), int(r.Memory[3][4])
}

// Each accepted connection is somebody's, and only those of the old generation count.
func TestOutstandingAndDrained(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		type connection struct {
			client *net.TCPConn
			fd     int
		}
		var open []connection
		accept := func(g *generation, s service) {
			client, fd := serves(t, g.puppet, s)
			open = append(open, connection{client, fd})
		}
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
			for range 3 {
				accept(g, s)
			}
		})
		// Before the gate both accept.
		accept(r.old, r.service)
		serves(t, r.new.puppet, r.at)
		r.gate(t)
		serves(t, r.new.puppet, r.at)
		dial(t, r.addr) // nobody's yet
		r.outstanding(t, 4)

		stopped := make(chan struct{})
		drained := make(chan error, 1)
		go func() { // ends with AwaitDrained, which the test waits for
			drained <- r.old.tracker.AwaitDrained(t.Context(), r.preserved.Claimed, func() []int { return group(r.new.PID) },
				func() { close(stopped) })
		}()
		for i, c := range open {
			select {
			case <-stopped:
				t.Fatalf("stopped with %d connections open", len(open)-i)
			default:
			}
			r.old.Must(t, 0, unix.SYS_CLOSE, c.fd)
			if rest, err := io.ReadAll(c.client); err != nil || len(rest) != 0 {
				t.Errorf("the client read %q, %v", rest, err)
			}
		}
		select {
		case err := <-drained:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("not drained")
		}
		select {
		case <-stopped:
		default:
			t.Error("drained, and not stopped")
		}
		r.outstanding(t, 0)
	})
}

func TestAwaitDrainedEnds(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, nil)
		serves(t, r.old.puppet, r.service)
		r.gate(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := r.old.tracker.AwaitDrained(ctx, r.preserved.Claimed, func() []int { return group(r.new.PID) }, func() {
			t.Error("stopped with a connection open")
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
