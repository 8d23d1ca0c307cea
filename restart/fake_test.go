package restart

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/huptime/huptime/internal/signals"
	"github.com/huptime/huptime/sockets"
)

// world is a host of fake processes, on fake time (testing/synctest): no test here sleeps.
type world struct {
	t        *testing.T
	in       *inbox
	m        *machine
	fakes    []*fake
	ended    []reaped             // what the next reap returns
	launches []error              // errors of the next launches; nil is a good one
	from     []*sockets.Preserved // what each generation may claim
	names    []int                // leaders that were promoted
	log      strings.Builder
	result   chan struct{}
	status   int
	err      error
}

// fake is a generation that does what the test says.
type fake struct {
	w         *world
	number    int
	ready     chan error
	gated     chan error
	drained   chan error
	ungated   chan error
	serving   chan struct{}
	bad       chan error
	accepting chan error
	switched  error
	lacking   string
	undropped bool
	finished  chan struct{}
	ended     chan struct{}
	did       []string
	collected error
	dead      bool
	obstacle  string
	wrapper   string
	handsOver bool // its paths are its successor's
}

func (f *fake) note(format string, args ...any) { f.did = append(f.did, fmt.Sprintf(format, args...)) }

func (f *fake) Leader() int { return 100 + f.number }

func (f *fake) AwaitReady(ctx context.Context, running func()) error {
	running()
	select {
	case err := <-f.ready:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fake) Ended() <-chan struct{} { return f.ended }

func (f *fake) Collect() (*sockets.Preserved, error) {
	if f.collected != nil {
		return nil, f.collected
	}
	f.note("collect")
	return &sockets.Preserved{}, nil
}

func (f *fake) HandOver(to *sockets.Preserved) { f.handsOver = to != nil }

func (f *fake) Shrink(*sockets.Preserved) {}
func (f *fake) Gather(*sockets.Preserved) {}

func (f *fake) Gate(ctx context.Context, _ func() []*sockets.Socket) (int, error) {
	f.w.m.call(func() { f.note("gate") })
	select {
	case err := <-f.gated:
		return 1, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (f *fake) AwaitDrained(ctx context.Context, stop func()) error {
	select {
	case err := <-f.drained:
		if err == nil {
			stop()
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fake) AwaitFinished(ctx context.Context) {
	select {
	case <-f.finished:
	case <-ctx.Done():
	}
}

func (f *fake) Kept() *sockets.Preserved {
	if w := f.w; !w.m.cfg.Revive.ever() {
		return nil
	}
	f.note("keep")
	return &sockets.Preserved{}
}

func (f *fake) Ungate(ctx context.Context, _ []*sockets.Socket) error {
	f.w.m.call(func() { f.note("ungate") })
	select {
	case err := <-f.ungated:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fake) AwaitServing(ctx context.Context) error {
	select {
	case <-f.serving:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fake) AwaitBad(ctx context.Context) error {
	select {
	case err := <-f.bad:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (f *fake) AwaitAccepting(ctx context.Context, _ time.Duration) error {
	if f.accepting == nil {
		return nil
	}
	select {
	case err := <-f.accepting:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fake) Switch(context.Context) error { return f.switched }

func (f *fake) SwitchBack(context.Context) error { return nil }

func (f *fake) Doubt() { f.note("doubt") }

func (f *fake) AwaitAgain(ctx context.Context) error { return f.AwaitReady(ctx, func() {}) }

func (f *fake) Lacking() (string, bool) { return f.lacking, f.undropped }

func (f *fake) Promoted() {}

func (f *fake) Obstacle() string { return f.obstacle }

func (f *fake) Signal(sig syscall.Signal) error { f.note("%s", signals.Name(sig)); return nil }
func (f *fake) SignalAll(sig syscall.Signal) error {
	f.note("%s to all", signals.Name(sig))
	return nil
}
func (f *fake) Wrapper() string { return f.wrapper }
func (f *fake) Kill()           { f.note("kill") }
func (f *fake) Close()          { f.note("close") }

// run makes a world in a bubble of fake time, starts the machine and lets the test drive it.
func run(t *testing.T, drive func(w *world)) {
	t.Helper()
	runWith(t, func(*Config) {}, drive)
}

// runWith does so with a changed configuration.
func runWith(t *testing.T, change func(*Config), drive func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, in: &inbox{hup: make(chan os.Signal, 1), child: make(chan os.Signal, 1),
			end: make(chan os.Signal, 8), forward: make(chan os.Signal, 8)}, result: make(chan struct{})}
		cfg := Config{DrainTimeout: time.Hour, ReadyTimeout: time.Minute, KillAfter: 10 * time.Second,
			StopSignal: syscall.SIGTERM, MaxGenerations: 3,
			Log: slog.New(slog.NewTextHandler(io.Writer(&w.log), &slog.HandlerOptions{Level: slog.LevelDebug}))}
		change(&cfg)
		w.m = newMachine(cfg, host{
			launch: func(number int, from *sockets.Preserved) (process, error) {
				w.from = append(w.from, from)
				if len(w.launches) > 0 {
					err := w.launches[0]
					w.launches = w.launches[1:]
					if err != nil {
						return nil, err
					}
				}
				f := &fake{w: w, number: number, ready: make(chan error, 1), gated: make(chan error, 1),
					drained: make(chan error, 1), ungated: make(chan error, 1), serving: make(chan struct{}, 1), bad: make(chan error, 1), finished: make(chan struct{}, 1), ended: make(chan struct{})}
				w.fakes = append(w.fakes, f)
				return f, nil
			},
			reap: func() ([]reaped, bool) {
				list := w.ended
				w.ended = nil
				return list, true
			},
			promoted: func(leader int) { w.names = append(w.names, leader) },
		})
		go func() {
			w.status, w.err = w.m.run(w.in)
			close(w.result)
		}()
		synctest.Wait()
		drive(w)
		w.finish()
	})
}

// finish ends what the test left and checks that nothing stays.
func (w *world) finish() {
	w.end(syscall.SIGTERM) // or it starts the service again
	for range 3 {
		for _, f := range w.fakes {
			w.die(f.number, killedBy(syscall.SIGKILL))
		}
	}
	select {
	case <-w.result:
	default:
		w.t.Error("the machine goes on after the last generation")
		w.m.stop()
	}
	for _, f := range w.fakes {
		if n := len(slices.DeleteFunc(slices.Clone(f.did), func(s string) bool { return s != "close" })); n != 1 {
			w.t.Errorf("generation %d was closed %d times", f.number, n)
		}
	}
	if w.t.Failed() {
		w.t.Log(w.log.String())
	}
}

// gen is a generation's fake.
func (w *world) gen(n int) *fake {
	w.t.Helper()
	i := slices.IndexFunc(w.fakes, func(f *fake) bool { return f.number == n })
	if i < 0 {
		w.t.Fatalf("there is no generation %d:\n%s", n, w.log.String())
	}
	return w.fakes[i]
}

func (w *world) ready(n int)            { w.t.Helper(); w.gen(n).ready <- nil; synctest.Wait() }
func (w *world) fail(n int, err error)  { w.t.Helper(); w.gen(n).ready <- err; synctest.Wait() }
func (w *world) gated(n int, err error) { w.t.Helper(); w.gen(n).gated <- err; synctest.Wait() }
func (w *world) drained(n int)          { w.t.Helper(); w.gen(n).drained <- nil; synctest.Wait() }
func (w *world) hup()                   { w.in.hup <- syscall.SIGHUP; synctest.Wait() }
func (w *world) end(sig syscall.Signal) { w.in.end <- sig; synctest.Wait() }

// wait lets time pass. The empty call orders what the test has read so far before what timers do meanwhile.
func (w *world) wait(d time.Duration) { w.m.call(func() {}); time.Sleep(d); synctest.Wait() }

func (w *world) forward(sig syscall.Signal) { w.in.forward <- sig; synctest.Wait() }

// die ends a generation: its leader is reaped, and its listener hangs up.
func (w *world) die(n int, status Status) {
	w.t.Helper()
	f := w.gen(n)
	if f.dead {
		return
	}
	f.dead = true
	w.ended = append(w.ended, reaped{pid: f.Leader(), status: status})
	select {
	case w.in.child <- syscall.SIGCHLD:
	default:
	}
	close(f.ended)
	synctest.Wait()
}

// did checks what was done to a generation so far.
func (w *world) did(n int, want ...string) {
	w.t.Helper()
	if got := w.gen(n).did; !slices.Equal(got, want) {
		w.t.Errorf("generation %d got %q, want %q", n, got, want)
	}
}

func (w *world) count(want int) {
	w.t.Helper()
	if len(w.fakes) != want {
		w.t.Errorf("%d generations were started, want %d", len(w.fakes), want)
	}
}

// exits checks that the machine has ended so.
func (w *world) exits(status int) {
	w.t.Helper()
	select {
	case <-w.result:
		if w.status != status {
			w.t.Errorf("exit status %d, want %d", w.status, status)
		}
	default:
		w.t.Errorf("the machine goes on; want exit status %d", status)
	}
}

func (w *world) says(text string) {
	w.t.Helper()
	if !strings.Contains(w.log.String(), text) {
		w.t.Errorf("the log does not say %q", text)
	}
}

func exited(n int) Status                { return Status(n << 8) }
func killedBy(sig syscall.Signal) Status { return Status(sig) }
