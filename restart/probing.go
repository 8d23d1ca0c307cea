package restart

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/probe"
)

// prober asks a generation what Config.Probes name.
type prober struct {
	cfg     *Config
	options probe.Options
	failed  func(ctx context.Context) // is told of each attempt that did not pass, but on probation

	mu   sync.Mutex
	last string // what failed last, or what is waited for
}

// await asks each probe until it passes, one after the other, at the configured interval. It returns ctx's error when ctx ends before.
func (p *prober) await(ctx context.Context) error {
	for _, probe := range p.cfg.Probes {
		if !probe.Tried() {
			continue
		}
		for {
			began := time.Now()
			err := p.try(ctx, probe, p.cfg.ReadyInterval)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				break
			}
			p.says(err.Error())
			p.failed(ctx)
			if !sleep(ctx, p.cfg.ReadyInterval-time.Since(began)) {
				return ctx.Err()
			}
		}
	}
	p.says("")
	return nil
}

// awaitBad asks the probes again and again and returns the first answer that says that the service does not serve. That there is no answer in time
// says nothing: a machine may be busy. It returns nil when ctx has ended.
func (p *prober) awaitBad(ctx context.Context) error {
	if !slices.ContainsFunc(p.cfg.Probes, probe.Probe.Tried) {
		<-ctx.Done()
		return nil
	}
	for {
		for _, probe := range p.cfg.Probes {
			if !probe.Tried() {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, max(p.cfg.ReadyInterval, time.Second))
			err := p.try(limited, probe, 0)
			slow := limited.Err() != nil
			cancel()
			if err != nil && !slow {
				return err
			}
		}
		if !sleep(ctx, p.cfg.ReadyInterval) {
			return nil
		}
	}
}

// stages tells whether generations have sockets of their own: it was asked for, or a probe connects, which is to reach
// the new one and nobody else, or in exec mode clients are to wait until the service says that it is ready, or a command
// that asks it.
func (c *Config) stages() bool {
	return c.Stage || slices.ContainsFunc(c.Probes, func(p probe.Probe) bool {
		_, _, connects := p.Address()
		return connects || c.Mode == Exec && (p.Kind() == probe.Notify || p.Kind() == probe.Exec)
	})
}

func (p *prober) try(ctx context.Context, probe probe.Probe, limit time.Duration) error {
	o := p.options
	o.Timeout = limit
	return probe.Try(ctx, o)
}

func (p *prober) says(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = what
}

// lacking is what failed last.
func (p *prober) lacking() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// sleep waits for d and tells whether ctx allowed it.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// errStopped is why a probe's command was killed.
var errStopped = errors.New("was killed: it took too long")

// runProbe runs a probe's command: see probe.Options.Run. It may be called on any goroutine but the machine's.
func (s *supervisor) runProbe(ctx context.Context, b beside) (output []byte, ended string, err error) {
	over := make(chan outcome, 1)
	var cancel func(why error) // the machine's goroutine's
	s.post(func() {
		if ctx.Err() != nil {
			over <- outcome{refused: ctx.Err()}
			return
		}
		cancel = s.command(b, func(o outcome) { over <- o })
	})
	var o outcome
	select {
	case o = <-over:
	case <-ctx.Done():
		s.post(func() {
			if cancel != nil {
				cancel(errStopped)
			}
		})
		select {
		case o = <-over:
		case <-time.After(time.Second): // huptime is ending
		}
		return []byte(o.output), "", ctx.Err()
	}
	switch {
	case o.refused != nil:
		return nil, "", o.refused
	case unix.WaitStatus(o.status).Signaled():
		return []byte(o.output), fmt.Sprintf("was %s", o.status), nil
	case o.status.Code() != 0:
		return []byte(o.output), o.status.String(), nil
	}
	return []byte(o.output), "", nil
}
