package restart

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/signals"
	"github.com/huptime/huptime/sockets"
)

type sigNumber = syscall.Signal

var errEnding = errors.New("huptime is ending")

// hup answers a SIGHUP: one restart, now or as soon as it can be. However many come
// meanwhile, they are one.
func (m *machine) hup() {
	if m.ending {
		m.log.Info("SIGHUP ignored: huptime is ending")
		return
	}
	if m.cfg.PassHangup && m.current != nil {
		m.signal(m.current, syscall.SIGHUP)
	}
	if m.gap != nil {
		m.hupInGap()
		return
	}
	m.pending = true
	if why := m.busy(); why != "" {
		m.log.Info("restart wanted; it waits", "for", why)
		m.shortenTrial()
		return
	}
	m.nextRestart()
}

// busy says what a restart must wait for, or nothing.
func (m *machine) busy() string {
	switch {
	case m.gap != nil:
		return "the restart that runs"
	case m.current == nil:
		return "the first generation, or the one that takes over, to be ready"
	case m.next != nil, m.checking != nil:
		return "the restart that runs"
	case m.trial != nil:
		return "the new generation to prove itself"
	}
	for _, g := range m.living {
		if g.state == gating {
			return "the restart that runs"
		}
	}
	if len(m.living) >= m.cfg.MaxGenerations {
		return "an old generation to end"
	}
	return ""
}

// nextRestart starts the restart that is wanted, if nothing is in its way.
func (m *machine) nextRestart() {
	if !m.pending || m.ending || m.busy() != "" {
		return
	}
	m.pending = false
	m.log.Info("restart begun", "generation", m.highest+1)
	m.begun = time.Now()
	if m.cfg.Check != "" {
		m.startCheck()
		return
	}
	m.replace()
}

// replace starts the generation that is to replace the current one.
func (m *machine) replace() {
	from, err := m.current.process.Collect()
	if err != nil {
		m.failed(m.highest+1, err.Error())
		return
	}
	from = m.cfg.standing.Join(from, false)
	// Before the new one can make its files: the old one may end by itself from now on, and remove them. In exec mode it
	// does end, and clients must find the sockets' files while no generation serves.
	m.current.process.HandOver(from)
	if m.cfg.Mode == Exec {
		m.execRestart(from)
		return
	}
	m.launch(from)
}

// retire gates the old generation on the sockets that which lists, once prepare has returned; on its error the old one stays as it was. by is the new one, which is ready, or
// nil in exec mode, where it is yet to come.
func (m *machine) retire(old, by *generation, prepare func() error, which func() []*sockets.Socket) {
	old.state = gating
	gating, stop := context.WithCancel(old.ctx)
	old.ungate = stop
	var claims *sockets.Preserved
	if by != nil {
		claims = by.from
	}
	go func() {
		if err := prepare(); err != nil {
			stop()
			m.post(func() { m.notSwitched(old, by, err) })
			return
		}
		waking, gated := context.WithCancel(old.ctx)
		if claims != nil {
			go claims.Wake()(waking) // ends by itself, a little after this
		}
		connections, err := old.process.Gate(gating, which)
		stop()
		if err != nil {
			context.AfterFunc(old.ctx, gated) // it goes on to be told of clients until it has ended
		} else {
			gated()
		}
		m.post(func() { m.gated(old, by, connections, err) })
	}()
}

func (m *machine) gated(old, by *generation, connections int, err error) {
	opaque := errors.Is(err, sockets.ErrOpaque)
	if m.trial != nil && m.trial.old == old && m.trial.back && old.state != over {
		m.goBack()
		return
	}
	if err != nil && !opaque && old.state != over {
		// It may accept a connection yet, which the drain then waits for.
		m.log.Warn("old generation not gated wholly", "generation", old.number, "error", err.Error())
	}
	if old.state == gating {
		m.log.Info("generation gated", "generation", old.number, "connections", connections)
		if m.beginTrial(old, by, opaque) {
			return
		}
		m.finish(old, opaque)
	}
	if m.trial != nil && m.trial.g == by {
		m.trusted(by)
	}
}

// finish lets a gated generation finish its connections and end. One that is opaque could not be gated.
func (m *machine) finish(old *generation, opaque bool) {
	if !opaque {
		old.state = draining
		m.drain(old)
		return
	}
	// It goes on accepting until it has its stop signal; what it has accepted it may finish.
	m.stopGeneration(old, "can't be gated")
	go func() {
		ctx, cancel := context.WithTimeout(old.ctx, m.cfg.DrainTimeout)
		defer cancel()
		old.process.AwaitFinished(ctx)
		m.post(func() { m.killLater(old) })
	}()
}

// drain waits for the last connection of a gated generation.
func (m *machine) drain(g *generation) {
	ctx, cancel := context.WithTimeout(g.ctx, m.cfg.DrainTimeout)
	go func() {
		defer cancel()
		err := g.process.AwaitDrained(ctx, func() { m.call(func() { m.drained(g) }) })
		if err != nil {
			m.post(func() { m.notDrained(g, err) })
		}
	}()
}

func (m *machine) drained(g *generation) {
	if g.state != draining {
		return
	}
	m.log.Info("generation drained", "generation", g.number)
	m.endGeneration(g, "drained")
}

func (m *machine) notDrained(g *generation, err error) {
	if g.state != draining {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		m.endGeneration(g, "drain timeout")
		return
	}
	m.log.Warn("cannot tell when the old generation is drained", "generation", g.number, "error", err.Error())
	m.endGeneration(g, "drain unknown")
}

// endGeneration sends the stop signal, and SIGKILL later.
func (m *machine) endGeneration(g *generation, why string) {
	m.stopGeneration(g, why)
	m.killLater(g)
}

func (m *machine) stopGeneration(g *generation, why string) {
	g.state = stopping
	m.log.Info("stop signal sent", "generation", g.number, "signal", signals.Name(m.cfg.StopSignal), "why", why)
	m.sendStop(g, m.cfg.StopSignal)
}

// killLater kills a generation that does not end after its stop signal.
func (m *machine) killLater(g *generation) {
	if m.cfg.Wait {
		return
	}
	g.limited = true
	m.stopRest(g)
	timer := m.after(m.cfg.KillAfter, func() {
		if g.state != over && !g.killed {
			m.log.Warn("generation killed", append([]any{"generation", g.number, "after", m.cfg.KillAfter.String()}, m.hint(g)...)...)
			m.kill(g)
		}
	})
	context.AfterFunc(g.ctx, func() { timer.Stop() })
}

func (m *machine) signal(g *generation, sig sigNumber) { m.warnSignal(g, sig, g.process.Signal(sig)) }

func (m *machine) warnSignal(g *generation, sig sigNumber, err error) {
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		m.log.Warn("cannot send a signal", "generation", g.number, "signal", signals.Name(sig), "error", err.Error())
	}
}

// end answers TERM and INT. The first goes to the service and ends all else; the second kills.
func (m *machine) end(sig sigNumber) {
	if m.ended.again(sig) {
		m.log.Debug("signal ignored: it came with the one before", "signal", signals.Name(sig))
		return
	}
	m.ends++
	if m.ends > 1 {
		m.log.Warn("everything is killed", "signal", signals.Name(sig))
		for _, g := range m.living {
			m.kill(g)
		}
		return
	}
	m.ending = true
	m.pending = false
	if m.gap != nil && m.current == nil && m.next == nil {
		m.closeGap(proc.SignalBase + int(sig))
		return
	}
	if m.current != nil {
		m.current.process.HandOver(nil) // nobody will need its files: it may remove them
	}
	m.dropTrial()
	m.endOthers()
	if g := m.addressee(); g != nil && (g.state == serving || g.state == starting) {
		m.sendStop(g, sig)
	}
}

// endOthers ends every generation but the one that signals go to. In exec mode that one may be on its way out already.
func (m *machine) endOthers() {
	m.stopCheck()
	for _, g := range append([]*generation(nil), m.living...) {
		switch {
		case g == m.addressee() && (g.state == serving || g.state == starting):
		case g.state == starting:
			if g.failure == nil {
				m.giveUp(g, errEnding)
			} else if !g.killed {
				m.kill(g)
			}
		case g.state == gating || g.state == standby || g.state == draining:
			m.endGeneration(g, "huptime is ending")
		}
	}
}

// forward hands a signal on to the current leader.
func (m *machine) forward(sig sigNumber) {
	if g := m.addressee(); g != nil {
		m.signal(g, sig)
	}
}

// addressee is the generation that signals are forwarded to: the current one, or while there is none the one that starts.
func (m *machine) addressee() *generation {
	if m.current != nil {
		return m.current
	}
	for _, g := range m.living {
		if g.state == starting && g.failure == nil {
			return g
		}
	}
	return nil
}
