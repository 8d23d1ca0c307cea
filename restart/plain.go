package restart

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proctree"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// goPlain makes the configuration one without huptime's help (Config.BestEffort), if the reason is one.
func goPlain(cfg *Config, why error) error {
	if !errors.Is(why, notify.ErrUnsupported) && !errors.Is(why, errNoAccess) {
		return why
	}
	if cfg.Copies > 1 {
		return fmt.Errorf("several copies (--multi) can't share sockets here: %w", why)
	}
	if !cfg.PassFDs {
		cfg.standing.Close() // or they would be in the way of the service's own
	}
	cfg.plain, cfg.Mode = true, Exec
	cfg.Log.Warn("the service runs without huptime's help: SIGHUP stops it and starts it again, and clients are refused meanwhile", "why", why.Error())
	return nil
}

// plain is a generation that has no filter, and that nothing is known of but its processes. It implements process.
type plain struct {
	number   int
	launcher *notify.Launcher
	census   *proctree.Tree
	log      *slog.Logger
	reaped   chan struct{} // closed when the leader was reaped
	ended    chan struct{}
	killOnce sync.Once
}

// launchPlain is launch for a service without huptime's help.
func (s *supervisor) launchPlain(number int) (process, error) {
	s.census.Settle()
	launch, err := s.prepare(number, nil)
	if err != nil {
		return nil, err
	}
	launch.Unfiltered = true
	var launcher *notify.Launcher
	err = s.census.Begin(number, starts(launch, &launcher))
	if err != nil {
		return nil, err
	}
	if number == 1 {
		s.terminal.Give(launcher.PID)
	}
	p := &plain{number: number, launcher: launcher, census: s.census, log: s.cfg.Log, reaped: make(chan struct{}), ended: make(chan struct{})}
	s.watched[launcher.PID] = func(Status) {
		delete(s.watched, launcher.PID)
		close(p.reaped)
	}
	go p.awaitEnd()
	return p, nil
}

// awaitEnd closes ended when the leader has been reaped and none that it left behind is alive. It ends with the generation.
func (p *plain) awaitEnd() {
	<-p.reaped
	for pause := killInterval; len(p.census.Members(p.number)) > 0; pause = min(2*pause, longestLook) {
		time.Sleep(pause)
	}
	close(p.ended)
}

// longestLook is how often those that a leader left behind are looked for.
const longestLook = 500 * time.Millisecond

func (p *plain) Leader() int { return p.launcher.PID }

func (p *plain) Ended() <-chan struct{} { return p.ended }

// provesStart is how long a service must live to count as started: nothing else can be told of it.
const provesStart = time.Second

// AwaitReady implements process.
func (p *plain) AwaitReady(ctx context.Context, running func()) error {
	if err := p.launcher.Handshake(nil); err != nil {
		return err
	}
	running()
	timer := time.NewTimer(provesStart)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.reaped:
		// A daemon's leader ends at once, and the daemon lives.
		if len(p.census.Members(p.number)) > 0 {
			return nil
		}
		<-ctx.Done() // what its end means is decided when its status is known
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (*plain) Promoted() {}

// Shrink implements process.
func (*plain) Shrink(*sockets.Preserved) {}

// Gather implements process.
func (*plain) Gather(*sockets.Preserved) {}

// Collect implements process: there is nothing that could be kept.
func (*plain) Collect() (*sockets.Preserved, error) { return nil, nil }

func (*plain) HandOver(*sockets.Preserved) {}

func (*plain) Obstacle() string { return "" }

func (*plain) Kept() *sockets.Preserved { return nil }

// Gate, AwaitDrained and AwaitFinished implement process. The machine asks for none of them here.

func (*plain) Gate(context.Context, func() []*sockets.Socket) (int, error) {
	return 0, sockets.ErrOpaque
}

func (*plain) AwaitDrained(_ context.Context, stop func()) error { stop(); return nil }

func (*plain) AwaitFinished(context.Context) {}

// Signal implements process. It runs on the goroutine that reaps, so the leader's PID is nobody else's yet.
func (p *plain) Signal(sig syscall.Signal) (err error) {
	select {
	case <-p.reaped:
	default:
		return unix.Kill(p.Leader(), sig)
	}
	for _, pid := range p.census.Tops(p.number) {
		err = unix.Kill(pid, sig)
	}
	return err
}

// SignalAll implements process.
func (p *plain) SignalAll(sig syscall.Signal) error {
	return signalEach(p.census.Members(p.number), sig)
}

// Kill implements process. Its goroutine ends with the generation.
func (p *plain) Kill() {
	p.killOnce.Do(func() {
		go func() {
			for {
				for _, pid := range p.census.Members(p.number) {
					unix.Kill(pid, unix.SIGKILL)
				}
				select {
				case <-p.ended:
					return
				case <-time.After(killInterval):
				}
			}
		}()
	})
}

// Close implements process.
func (p *plain) Close() { p.census.Ended(p.number) }

// Ungate implements process.
func (p *plain) Ungate(context.Context, []*sockets.Socket) error { return nil }

// AwaitServing implements process.
func (p *plain) AwaitServing(context.Context) error { return nil }

// Lacking implements process.
func (p *plain) Lacking() (words string, undropped bool) { return "", false }

// AwaitBad implements process.
func (p *plain) AwaitBad(context.Context) error { return nil }

// AwaitAccepting implements process.
func (p *plain) AwaitAccepting(context.Context, time.Duration) error { return nil }

// Doubt implements process.
func (p *plain) Doubt() {}

// AwaitAgain implements process.
func (p *plain) AwaitAgain(context.Context) error { return nil }

// Switch implements process.
func (p *plain) Switch(context.Context) error { return nil }

// SwitchBack implements process.
func (p *plain) SwitchBack(context.Context) error { return nil }
