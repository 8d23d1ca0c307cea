package sockets

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// One generation after the other: what a restart leaves of the kernel's state is nothing, and one that fails
// leaves nothing either.
func TestStageAgain(t *testing.T) {
	for _, kind := range stagedKinds {
		t.Run(kind.name, func(t *testing.T) {
			knocks := NewKnocks()
			at := kind.unused(t)
			current := launchStaged(t, 1, nil, knocks)
			s := kind.listens(t, current.puppet, at)
			clients := kind.crowd(at)
			total := 0
			for number := 2; number < 6; number++ {
				preserved := collect(t, current)
				next := launchStaged(t, number, preserved, knocks)
				is := kind.listens(t, next.puppet, at)
				clients.until(t, 10)
				if number%2 == 0 { // it fails
					if n := kind.takes(t, next.puppet, is); n > 0 {
						t.Errorf("generation %d got %d clients", number, n)
					}
					_ = unix.Kill(-next.PID, unix.SIGKILL)
					eventually(t, "it is over", func() bool { return len(group(next.PID)) == 0 })
					next.tracker.Close()
					preserved.Close()
					continue
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				clients.until(t, 10)
				total += kind.takes(t, current.puppet, s)
				_ = unix.Kill(-current.PID, unix.SIGKILL)
				eventually(t, "it is over", func() bool { return len(group(current.PID)) == 0 })
				current.tracker.Close()
				preserved.Close()
				current, s = next, is
			}
			sent := clients.over(t)
			if total += kind.takes(t, current.puppet, s); total != sent {
				t.Errorf("%d of %d clients were served", total, sent)
			}
			eventually(t, "nothing is left", func() bool {
				g := knocks.ports.all()
				g[0].mu.Lock()
				defer g[0].mu.Unlock()
				return len(g) == 1 && g[0].helper < 0 && len(g[0].handles) == 0 &&
					len(g[0].of) == 1 && len(g[0].array) == 1 && len(knocks.ports.homes) == 1
			})
		})
	}
}

// A drain counts the connections of a generation that needs no gate.
func TestStageDrain(t *testing.T) {
	knocks := NewKnocks()
	kind := stagedKinds[0]
	at := kind.unused(t)
	old := launchStaged(t, 1, nil, knocks)
	was := kind.listens(t, old.puppet, at)
	serves(t, old.puppet, was)
	dial(t, at) // waits in the queue
	preserved := collect(t, old)
	next := launchStaged(t, 2, preserved, knocks)
	is := kind.listens(t, next.puppet, at)
	if err := next.tracker.Switch(t.Context()); err != nil {
		t.Fatal(err)
	}
	old.tracker.Shrink(preserved)
	if list := preserved.Claimed(); len(list) > 0 {
		t.Fatalf("to be gated: %v", list)
	}
	if err := old.tracker.Gate(t.Context(), preserved.Claimed()); err != nil {
		t.Fatal(err)
	}
	serves(t, next.puppet, is)
	newer := func() []int { return group(next.PID) }
	if n, err := old.tracker.Outstanding(newer); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	stopped := make(chan error, 1)
	go func() {
		stopped <- old.tracker.AwaitDrained(t.Context(), preserved.Claimed, newer, func() {})
	}()
	queued := old.Must(t, 0, unix.SYS_ACCEPT4, was.fd, 0, 0, 0)
	select {
	case <-stopped:
		t.Fatal("it has two connections")
	default:
	}
	for fd := 3; fd <= queued; fd++ {
		old.closeConnection(t, fd)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// closeConnection closes a descriptor if it is a connection.
func (p *puppet) closeConnection(t *testing.T, fd int) {
	t.Helper()
	if r := p.Call(t, 0, unix.SYS_GETPEERNAME, fd, make([]byte, 128), []byte{128, 0, 0, 0}); r.Errno == 0 {
		if a, err := sockaddr.Parse(r.Memory[1][:sockaddr.SizeofIn]); err == nil && a.Family == unix.AF_INET {
			p.Must(t, 0, unix.SYS_CLOSE, fd)
		}
	}
}

// Where pidfd_getfd is denied the caller is made to send its socket, and to bind once more.
func TestStageDenied(t *testing.T) {
	for _, level := range []notify.Level{notify.LevelListeners, notify.LevelConnections} {
		for _, kind := range stagedKinds {
			t.Run(string(level)+" "+kind.name, func(t *testing.T) {
				knocks := NewKnocks()
				at := kind.unused(t)
				deny := func(tr *Tracker) {
					if err := tr.Stage(); err != nil {
						t.Fatal(err)
					}
					tr.stage.copyCaller = func(int, int) (int, error) { return -1, unix.EPERM }
				}
				old := launchPrepared(t, 1, level, nil, knocks, 0, deny)
				was := kind.listens(t, old.puppet, at)
				next := launchPrepared(t, 2, level, collect(t, old), knocks, 0, deny)
				is := kind.listens(t, next.puppet, at)
				if why := next.tracker.PlantedInstead(); len(why) > 0 || len(next.tracker.Staged()) != 1 {
					t.Fatal("planted:", why)
				}
				for range 8 {
					ask(t, sockaddr.Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range 8 {
					ask(t, sockaddr.Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				if a, b := kind.takes(t, old.puppet, was), kind.takes(t, next.puppet, is); a != 8 || b != 8 {
					t.Errorf("%d came to the old one, %d to the new one", a, b)
				}
				fd, errno := kind.tryBind(t, next.puppet, at, 0)
				if errno != unix.EADDRINUSE {
					t.Errorf("a second bind: %v", errno)
				}
				next.Must(t, 0, unix.SYS_CLOSE, fd)
			})
		}
	}
}

// The old generation ends while the new one starts: clients wait, and are served by the new one, in the old
// socket where it does not listen yet.
func TestStageSuddenEnd(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, kind := range stagedKinds {
			if kind.option && !early || kind.kind == unix.SOCK_DGRAM && !early {
				continue // clients that come before the new generation does are lost with the old one's sockets
			}
			t.Run(fmt.Sprint(kind.name, ", the new one listens: ", early), func(t *testing.T) {
				knocks := NewKnocks()
				at := kind.unused(t)
				old := launchStaged(t, 1, nil, knocks)
				kind.listens(t, old.puppet, at)
				preserved := collect(t, old)
				next := launchStaged(t, 2, preserved, knocks)
				is := kind.opens(t, next.puppet, at)
				if early && kind.kind == unix.SOCK_STREAM {
					next.Must(t, 0, unix.SYS_LISTEN, is.fd, 4096)
				}
				_ = unix.Kill(-old.PID, unix.SIGKILL)
				eventually(t, "it is over", func() bool { return len(group(old.PID)) == 0 })
				preserved.Abandoned()
				for range 8 {
					ask(t, sockaddr.Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				if !early {
					next.Must(t, 0, unix.SYS_LISTEN, is.fd, 4096)
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := kind.takes(t, next.puppet, is); n != 8 {
					t.Errorf("%d of 8 clients were served", n)
				}
			})
		}
	}
}

// The way back says what waits in the sockets of the generation that is left, and only there.
func TestSwitchBackCounts(t *testing.T) {
	for _, kind := range stagedKinds {
		t.Run(kind.name, func(t *testing.T) {
			knocks := NewKnocks()
			at := kind.unused(t)
			old := launchStaged(t, 1, nil, knocks)
			was := kind.listens(t, old.puppet, at)
			next := launchStaged(t, 2, collect(t, old), knocks)
			kind.listens(t, next.puppet, at)
			come := func(n int) {
				for range n {
					ask(t, sockaddr.Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
			}
			come(5)
			if err := next.tracker.Switch(t.Context()); err != nil {
				t.Fatal(err)
			}
			come(3)
			want := 3
			if kind.kind == unix.SOCK_DGRAM {
				want = 1 // sockets are counted
			}
			lost, err := next.tracker.SwitchBack(t.Context())
			if err != nil || lost != want {
				t.Errorf("%d wait, %v; want %d", lost, err, want)
			}
			come(2)
			if n := kind.takes(t, old.puppet, was); n != 7 {
				t.Errorf("%d of 7 came to the old generation", n)
			}
		})
	}
}
