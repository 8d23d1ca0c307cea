package restart

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// watch answers the connect calls of a probe's command, so that they reach the generation that is asked about: see
// sockets.ProbeCommand.
type watch struct {
	program notify.Program
	calls   *sockets.ProbeCommand
	log     *slog.Logger
}

// serving is what a handshake does with the listener of a command; nil for a nil watch. The calls are answered until
// all of the command's processes are gone, also those that have left its process group and outlive it: a call that
// nobody answers would fail with ENOSYS.
func (w *watch) serving(pid int) func(*notify.Listener) {
	if w == nil {
		return nil
	}
	return func(l *notify.Listener) {
		go func() { // ends with the hangup
			defer w.calls.Close()
			if err := l.Serve(w.calls, nil); err != nil {
				w.log.Error("the listener of a probe failed; the probe is killed", "error", err.Error())
				_ = unix.Kill(-pid, unix.SIGKILL)
			}
			if err := l.Close(); err != nil {
				w.log.Error("cannot close a listener", "error", err.Error())
			}
		}()
	}
}

// connects is the filter of such commands.
var connects = sync.OnceValues(notify.BuildConnectFilter)

// runProbe makes what runs the command of an exec probe: see probe.Options.Run.
func (p *live) runProbe(s *supervisor) func(context.Context, []string, []string, string) ([]byte, string, error) {
	return func(ctx context.Context, argv, env []string, _ string) ([]byte, string, error) {
		b := beside{argv: argv, env: env}
		if !p.staged {
			return s.runProbe(ctx, b)
		}
		program, err := connects()
		if err != nil {
			return nil, "", err
		}
		calls := p.tracker.ProbeCommand()
		b.watch = &watch{program: program, calls: calls, log: s.cfg.Log}
		output, ended, err := s.runProbe(ctx, b)
		switch why := calls.Astray(); {
		case why != nil:
			p.astray.Store(astrayForSure)
			if p.number > 1 {
				p.sayAstray.Do(func() {
					p.log.Warn("a probe's command can't be led to the new version: it asks whoever serves",
						"generation", p.number, "why", why.Error())
				})
			}
		case ctx.Err() != nil && calls.Elsewhere():
			p.astray.Add(1)
		default:
			p.astray.Store(0)
		}
		return output, ended, err
	}
}

// letInLimit bounds how long the generation may take to be given the sockets in which clients wait.
const letInLimit = 10 * time.Second

// astrayForSure is how often in a row a command must have been killed at its limit, having connected to something else
// only, to be taken for one that has others connect for it: once it could have been about to connect.
const astrayForSure = 3

// letIn gives the generation, where none serves, the clients that wait before a command has said that it is ready, if
// that one can't be led to it: it waits among the clients, and would for ever. It is one whose connections may not be
// looked into, or are made by others.
func (p *live) letIn(ctx context.Context) {
	if p.astray.Load() < astrayForSure {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, letInLimit)
	defer cancel()
	let, err := p.tracker.LetIn(ctx)
	if err == nil && !let {
		return
	}
	if err != nil {
		p.log.Warn("a probe's command waits among the clients, and they can't be let in",
			"generation", p.number, "error", err.Error())
		return
	}
	p.log.Warn("a probe's command waits among the clients: they are let in before it has passed", "generation", p.number)
}
