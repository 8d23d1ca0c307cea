package restart

import (
	"context"
	"errors"
	"syscall"

	"huptime/sockets"
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
	m.pending = true
	if why := m.busy(); why != "" {
		m.log.Info("restart wanted; it waits", "for", why)
		return
	}
	m.nextRestart()
}

// busy says what a restart must wait for, or nothing.
func (m *machine) busy() string {
	switch {
	case m.current == nil:
		return "generation 1 to be ready"
	case m.next != nil:
		return "the restart that runs"
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
	from, err := m.current.process.Collect()
	if err != nil {
		m.log.Error("restart failed", "generation", m.highest+1, "reason", err.Error())
		return
	}
	// Before the new one can make its files, so that the old one, should it end by itself from now on, does not
	// remove them.
	m.current.process.Yield(from)
	m.launch(from)
}

// retire gates the old generation: the new one is ready.
func (m *machine) retire(old, by *generation) {
	old.state = gating
	old.successor = by
	go func() {
		connections, err := old.process.Gate(old.ctx, by.from)
		m.post(func() { m.gated(old, by, connections, err) })
	}()
}

func (m *machine) gated(old, by *generation, connections int, err error) {
	opaque := errors.Is(err, sockets.ErrOpaque)
	if err != nil && !opaque && old.state != over {
		// It may accept a connection yet, which the drain then waits for.
		m.log.Warn("old generation not gated wholly", "generation", old.number, "error", err.Error())
	}
	if by.from != nil {
		by.from.ReleaseClaimed()
	}
	if old.state == gating {
		m.log.Info("generation gated", "generation", old.number, "connections", connections)
		if opaque {
			// It goes on accepting, so there is nothing to wait for.
			m.stopGeneration(old, "can't be gated")
		} else {
			old.state = draining
			m.drain(old)
		}
	}
	m.log.Info("restart finished", "generation", by.number, "took", since(by.began))
	m.nextRestart()
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
	m.stopGeneration(g, "drained")
}

func (m *machine) notDrained(g *generation, err error) {
	if g.state != draining {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		m.stopGeneration(g, "drain timeout")
		return
	}
	m.log.Warn("cannot tell when the old generation is drained", "generation", g.number, "error", err.Error())
	m.stopGeneration(g, "drain unknown")
}

// stopGeneration sends the stop signal, and SIGKILL later.
func (m *machine) stopGeneration(g *generation, why string) {
	g.state = stopping
	m.log.Info("stop signal sent", "generation", g.number, "signal", signalName(m.cfg.StopSignal), "why", why)
	m.signal(g, m.cfg.StopSignal)
	timer := m.after(m.cfg.KillAfter, func() {
		if g.state == stopping && !g.killed {
			m.log.Warn("generation killed", "generation", g.number, "after", m.cfg.KillAfter.String())
			m.kill(g)
		}
	})
	context.AfterFunc(g.ctx, func() { timer.Stop() })
}

func (m *machine) signal(g *generation, sig sigNumber) {
	if err := g.process.Signal(sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		m.log.Warn("cannot send a signal", "generation", g.number, "signal", signalName(sig), "error", err.Error())
	}
}

// end answers TERM and INT. The first goes to the service and ends all else; the second kills.
func (m *machine) end(sig sigNumber) {
	m.ends++
	if m.ends > 1 {
		m.log.Warn("everything is killed", "signal", signalName(sig))
		for _, g := range m.living {
			m.kill(g)
		}
		return
	}
	m.ending = true
	m.pending = false
	m.endOthers()
	m.forward(sig)
}

// endOthers ends every generation but the current one, and the first while it starts.
func (m *machine) endOthers() {
	for _, g := range append([]*generation(nil), m.living...) {
		switch {
		case g == m.current || g.number == 1 && g.state == starting:
		case g.state == starting:
			if g.failure == nil {
				m.giveUp(g, errEnding)
			}
		case g.state == gating || g.state == draining:
			m.stopGeneration(g, "huptime is ending")
		}
	}
}

// forward hands a signal on to the current leader.
func (m *machine) forward(sig sigNumber) {
	g := m.current
	if g == nil && len(m.living) > 0 && m.living[0].number == 1 && m.living[0].state == starting {
		g = m.living[0]
	}
	if g != nil {
		m.signal(g, sig)
	}
}
