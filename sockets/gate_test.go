package sockets

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

func (r *restarted) refuses(t *testing.T, fd int) {
	t.Helper()
	if got := r.old.Call(t, 0, unix.SYS_ACCEPT4, fd, 0, 0, 0); got.Errno != unix.EAGAIN {
		t.Errorf("accept of a gated generation: %d, %v", got.Value, got.Errno)
	}
}

// What the new generation has not claimed stays the old one's, until it does.
func TestGateOnlyClaimed(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var late service
		knocks := NewKnocks()
		r := &restarted{old: launch(t, 1, level, nil, knocks, 0)}
		r.service = r.old.listenOn(t, loopback, unix.SOCK_NONBLOCK)
		late = r.old.listenOn(t, loopback, unix.SOCK_NONBLOCK)
		r.preserved = collect(t, r.old)
		r.new = launch(t, 2, level, r.preserved, knocks, 0)
		r.at = r.new.listenOn(t, r.addr, unix.SOCK_NONBLOCK)
		gateAll := func() {
			t.Helper()
			if err := r.old.tracker.Gate(t.Context(), r.preserved.Claimed()); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // it may be called again
			gateAll()
		}
		r.refuses(t, r.fd)
		serves(t, r.old.puppet, late)
		r.outstanding(t, 0)
		at := r.new.listenOn(t, late.addr, unix.SOCK_NONBLOCK)
		serves(t, r.old.puppet, late)
		gateAll()
		r.refuses(t, late.fd)
		serves(t, r.new.puppet, at)
		serves(t, r.new.puppet, r.at)
		r.outstanding(t, 2)
	})
}

// The socket is gated at every number, and can't be had back.
func TestGateEveryNumber(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const copied, kept = 900, 901 // far above what the puppet has for itself
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
			g.Must(t, 0, unix.SYS_DUP3, s.fd, copied, unix.O_CLOEXEC)
			g.Must(t, 0, unix.SYS_DUP3, s.fd, kept, 0)
		})
		r.gate(t)
		dial(t, r.addr)
		for _, fd := range []int{kept, r.fd, copied} {
			r.refuses(t, fd)
			r.old.Must(t, 0, unix.SYS_LISTEN, fd, 5)
			r.refuses(t, fd)
			if on := r.old.Must(t, 0, unix.SYS_FCNTL, fd, unix.F_GETFD, 0); on&unix.FD_CLOEXEC != 0 != (fd == copied) {
				t.Errorf("descriptor %d: flags %d", fd, on)
			}
		}
		r.new.Must(t, 0, unix.SYS_ACCEPT4, r.at.fd, 0, 0, 0)
		// Another socket is none of the gate's business, also in a gated generation.
		own := r.old.listenOn(t, loopback, unix.SOCK_NONBLOCK)
		serves(t, r.old.puppet, own)
		r.outstanding(t, 0)
	})
}

// Somebody has stopped the old generation (a debugger, an operator): it stays stopped, and is gated when it goes on.
func TestGateStoppedProcess(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var waiting *puppets.Pending
		r := restart(t, level, 0, 0, func(g *generation, s service) {
			waiting = blocked(t, g.puppet, 1, s.fd)
		})
		state := func() byte {
			state, err := proc.ThreadState(r.old.PID, r.old.PID)
			if err != nil {
				t.Fatal(err)
			}
			return state
		}
		if err := unix.Kill(r.old.PID, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is stopped", func() bool { return state() == 'T' })
		// Connections: nobody asks while it is stopped. Listeners: it can be told.
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		want := error(nil)
		if level != notify.LevelListeners {
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			want = context.DeadlineExceeded
		}
		defer cancel()
		if err := r.old.tracker.Gate(ctx, r.preserved.Claimed()); !errors.Is(err, want) {
			t.Errorf("Gate: %v, want %v", err, want)
		}
		// One that was traced meanwhile runs for an instant, into its stop.
		eventually(t, "it is stopped again", func() bool { return state() == 'T' })
		if err := unix.Kill(r.old.PID, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		getPhantoms(t, r, map[*puppet][]*puppets.Pending{r.old.puppet: {waiting}})
	})
}

// It ends just then.
func TestGateEndedProcess(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restart(t, level, 0, 1, func(g *generation, s service) {
			blocked(t, g.worker(t, s.fd), 1, s.fd)
			blocked(t, g.puppet, 1, s.fd)
		})
		if err := unix.Kill(-r.old.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := r.old.tracker.Gate(t.Context(), r.preserved.Claimed()); err != nil {
			t.Error(err)
		}
		stopped := 0
		err := r.old.tracker.AwaitDrained(t.Context(), r.preserved.Claimed, func() []int { return group(r.new.PID) },
			func() { stopped++ })
		if err != nil || stopped != 1 {
			t.Errorf("%v, stopped %d times", err, stopped)
		}
		serves(t, r.new.puppet, r.at)
	})
}

// A client that connects at any moment of a restart gets its answer from one generation or the other.
func TestGateUnderLoad(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const threads, clients = 3, 60
		r := restart(t, level, 0, 0, nil)
		type served struct {
			p      *puppet
			thread int
			call   *puppets.Pending
		}
		results := make(chan bool, clients) // by a client: whether it was answered
		stop := make(chan struct{})
		done := make(chan struct{}, 2*threads)
		// Servers as naive as can be: accept, answer, close. They end with the processes or when told.
		serve := func(p *puppet, s service, thread int) {
			defer func() { done <- struct{}{} }()
			for {
				o := served{p, thread, p.Begin(t, thread, unix.SYS_ACCEPT4, s.fd, 0, 0, 0)}
				select {
				case got := <-o.call.Results():
					if got.Errno != 0 {
						t.Errorf("accept: %v", got.Errno)
						return
					}
					p.Call(t, thread, unix.SYS_WRITE, got.Value, []byte("hello"), 5)
					p.Call(t, thread, unix.SYS_CLOSE, got.Value)
				case <-stop:
					return
				}
			}
		}
		for i := range threads {
			go serve(r.old.puppet, r.service, i+1)
			go serve(r.new.puppet, r.at, i+1)
		}
		answered := make(chan struct{})
		go func() { // ends with the last client, which the test waits for
			defer close(answered)
			for range clients {
				c := dial(t, r.addr)
				buf := make([]byte, 8)
				_ = c.SetDeadline(time.Now().Add(patience))
				n, err := c.Read(buf)
				results <- err == nil && string(buf[:n]) == "hello"
			}
		}()
		take := func(n int, when string) {
			t.Helper()
			for range n {
				select {
				case ok := <-results:
					if !ok {
						t.Errorf("a client got no answer %s the gate", when)
					}
				case <-time.After(2 * patience):
					t.Fatalf("no client got through %s the gate", when)
				}
			}
		}
		take(clients/4, "before")
		r.gate(t)
		take(clients-clients/4, "after")
		<-answered
		close(stop)
		for range 2 * threads {
			<-done
		}
		r.outstanding(t, 0)
	})
}

// A process that is gated at its next accept is gated at all numbers then, and in the epoll sets that it has made since the gate was set:
// who is told of clients at another number spins.
func TestGateOtherWays(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const copied = 900
		var set int
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
			g.Must(t, 0, unix.SYS_DUP3, s.fd, copied, unix.O_CLOEXEC)
			set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(unix.EPOLLIN, 7))
		})
		r.gate(t)
		// What the program does with its entries goes on to work, and what it asks for anew is not answered for long.
		r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_MOD, r.fd, abi.Native.EpollEvent(unix.EPOLLIN, 8))
		r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, copied, abi.Native.EpollEvent(unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 9))
		dial(t, r.addr)
		r.refuses(t, r.fd)
		for _, fd := range []int{r.fd, copied} {
			if now := r.old.inode(t, fd); now == r.new.inode(t, r.at.fd) {
				t.Errorf("descriptor %d is the listening socket yet", fd)
			}
		}
		if got := r.old.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, 0, 0, 8); got.Value != 0 || got.Errno != 0 {
			t.Errorf("a gated process is told of a client: %+v", got)
		}
		r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, r.fd, 0)
		r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, copied, 0)
		r.new.Must(t, 0, unix.SYS_ACCEPT4, r.at.fd, 0, 0, 0)
		r.outstanding(t, 0)
	})
}

// The number that was registered is closed, or another file's; the entry is there as long as the socket is.
func TestGateStaleEntries(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const copied, again = 900, 901
		var set int
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
			set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			for _, fd := range []int{copied, again} {
				g.Must(t, 0, unix.SYS_DUP3, s.fd, fd, 0)
				g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, fd, abi.Native.EpollEvent(unix.EPOLLIN, 7))
			}
			g.Must(t, 0, unix.SYS_CLOSE, copied)
			pipe, _ := g.pair(t)
			g.Must(t, 0, unix.SYS_DUP3, pipe, again, 0)
		})
		r.gate(t)
		dial(t, r.addr)
		if got := r.old.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, 0, 0, 8); got.Value != 0 || got.Errno != 0 {
			t.Errorf("a gated process is told of a client: %+v", got)
		}
		r.refuses(t, r.fd)
		r.new.Must(t, 0, unix.SYS_ACCEPT4, r.at.fd, 0, 0, 0)
	})
}
