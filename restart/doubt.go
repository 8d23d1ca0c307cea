package restart

import (
	"context"
	"errors"
	"time"
)

// A new generation that was seen to wait may not accept all the same: sockets.Tracker.AwaitAccepting says of whom that is not known. It then goes back
// to starting, and the old one, which stands by, serves on meanwhile.

// accepts takes what was seen of whether the new generation accepts.
func (m *machine) accepts(t *probation, err error) {
	if m.trial != t || t.back || t.ctx.Err() != nil {
		return
	}
	switch {
	case err == nil:
		t.unsure = false
		m.endTrialIfSure()
	case t.old == nil:
		// There is nobody else who would.
	case t.old.state != standby || time.Since(t.g.began) >= m.cfg.ReadyTimeout:
		m.fail("not ready within " + m.cfg.ReadyTimeout.String() + ": " + err.Error())
	default:
		m.doubt(t, err)
	}
}

// doubt lets the old generation accept again, while the new one, which was ready too early, goes on to start.
func (m *machine) doubt(t *probation, why error) {
	g, old := t.g, t.old
	m.log.Info("the new generation does not accept yet", "generation", g.number, "why", why.Error())
	m.dropTrial()
	g.state, old.state, old.successor = starting, serving, nil
	m.current, m.next = old, g
	g.process.Doubt()
	m.host.promoted(old.process.Leader())
	await, awaited := context.WithCancel(g.ctx)
	g.awaited = awaited
	g.limit = m.after(max(0, m.cfg.ReadyTimeout-time.Since(g.began)), func() { m.readyTimeout(g) })
	go func() { // ends with either generation, or before
		err := g.process.SwitchBack(old.ctx)
		if err = errors.Join(err, old.process.Ungate(old.ctx, g.from.Sockets())); err != nil && old.ctx.Err() == nil {
			m.log.Error("the old generation does not accept again wholly", "generation", old.number, "error", err.Error())
		}
		if err := g.process.AwaitAgain(await); await.Err() == nil {
			m.post(func() { m.readiness(g, err) })
		}
	}()
}
