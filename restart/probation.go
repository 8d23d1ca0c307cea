package restart

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/huptime/huptime/sockets"
)

// probation is the time in which a new generation serves and the old one, which is gated and not stopped, can take over again
// (Config.MinReady). In exec mode there is no old one: then a new start follows.
type probation struct {
	g      *generation // on probation: the current one
	old    *generation // stands by; nil in exec mode
	opaque bool        // the old one could not be gated: it accepts as well
	timer  *time.Timer // ends it; nil until the old one is gated
	back   bool        // the new one has failed; the old one is about to take over
	reason string      // why
	gap    *gap        // in exec mode: the gap that the new one has closed
	unsure bool        // it has yet to be seen that the new one accepts
	due    bool        // its time is over
	asked  bool        // it is watched for an early end
	ctx    context.Context
	over   context.CancelFunc // ends ctx with the probation

	returned bool // on the way back: the old one accepts again
	buried   bool // likewise: the new one's last process is gone
}

func (m *machine) newTrial(g, old *generation) *probation {
	ctx, over := context.WithCancel(g.ctx)
	return &probation{g: g, old: old, ctx: ctx, over: over}
}

// beginTrial lets a gated generation stand by. It is not ok where there is nothing to stand by for.
func (m *machine) beginTrial(old, by *generation, opaque bool) bool {
	t := m.trial
	if by == nil || t == nil || t.g != by || m.cfg.MinReady <= 0 || m.ending {
		return false
	}
	old.state = standby
	t.opaque = opaque
	m.watchTrial()
	return true
}

// watchTrial sets the end of the probation.
func (m *machine) watchTrial() {
	t := m.trial
	t.timer = m.after(max(0, m.cfg.MinReady-time.Since(t.g.promoted)), func() {
		if m.trial == t && !t.back {
			t.due = true
			m.endTrialIfSure()
		}
	})
	t.unsure = true
	go func() { // ends with the probation, or before
		err := t.g.process.AwaitAccepting(t.ctx, m.cfg.MinReady/2)
		m.post(func() { m.accepts(t, err) })
	}()
	go func() { // ends with the probation, or before
		if err := t.g.process.AwaitBad(t.ctx); err != nil {
			m.post(func() {
				if m.trial == t && !t.back {
					m.fail(fmt.Sprintf("%s, %s after it was ready", err, since(t.g.promoted)))
				}
			})
		}
	}()
	if m.pending {
		m.shortenTrial()
	}
}

// endTrialIfSure ends the probation if its time is over and nothing is in doubt.
func (m *machine) endTrialIfSure() {
	if t := m.trial; t.due && !t.unsure {
		m.endTrial()
	}
}

// endTrial trusts the new generation: the old one may end.
func (m *machine) endTrial() {
	t := m.trial
	if t.old != nil && t.old.state == standby {
		m.finish(t.old, t.opaque)
	}
	m.trusted(t.g)
}

// trusted ends the restart that g came of: it serves, and nobody takes its place again but its successor.
func (m *machine) trusted(g *generation) {
	alone := m.trial == nil || m.trial.old == nil
	m.dropTrial()
	if alone {
		m.settle(g)
	} else if g.from != nil { // what is left of it ends with the old one
		g.from.ReleaseClaimed()
	}
	m.restarted(g)
	m.nextRestart()
}

// dropTrial forgets the probation; whoever stands by stays as it is.
func (m *machine) dropTrial() {
	t := m.trial
	if t == nil {
		return
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.over()
	m.trial = nil
}

// shortenTrial ends the probation early because another restart is wanted, as soon as the new generation was seen to wait for clients since it took
// over.
func (m *machine) shortenTrial() {
	t := m.trial
	if t == nil || t.timer == nil || t.asked || t.back {
		return
	}
	t.asked = true
	go func() { // ends with the probation, or before
		if t.g.process.AwaitServing(t.ctx) == nil {
			m.post(func() {
				if m.trial == t && !t.back {
					t.due = true
					m.endTrialIfSure()
				}
			})
		}
	}()
}

// proves puts a generation on probation that serves where no old one is. It is not ok where nothing would follow its failure.
func (m *machine) proves(g *generation, gap *gap) bool {
	if gap == nil || m.cfg.MinReady <= 0 || m.cfg.Revive.ever() || m.cfg.plain || g.from == nil || m.ending {
		return false
	}
	m.trial = m.newTrial(g, nil)
	m.trial.gap = gap
	m.watchTrial()
	return true
}

// provenBad begins the way back where g is on probation and has failed. It is not ok where g is not on probation.
func (m *machine) provenBad(g *generation) bool {
	t := m.trial
	if t == nil || t.g != g || m.ending || t.old != nil && t.old.state == over {
		return g.failed
	}
	if !t.back {
		m.fail(fmt.Sprintf("%s, %s after it was ready", g.ended(), since(g.promoted)))
	}
	return true
}

// fail ends the generation that is on probation, and lets the old one take over.
func (m *machine) fail(reason string) {
	t := m.trial
	t.back, t.reason, t.g.failed = true, reason, true
	if t.timer != nil {
		t.timer.Stop()
	}
	if t.g.state != over {
		m.kill(t.g)
	}
	if t.old == nil {
		return // when it is over
	}
	switch t.old.state {
	case gating:
		t.old.ungate() // goBack follows
	case standby:
		m.goBack()
	}
}

// notSwitched follows where the clients could not be sent to the new generation: that has failed.
func (m *machine) notSwitched(old, by *generation, err error) {
	if t := m.trial; t != nil && t.g == by && old.state != over && !t.back {
		m.fail("cannot switch to it: " + err.Error())
	}
	m.gated(old, by, 0, err)
}

// goBack lets the old generation accept again. Clients wait in the sockets' queues meanwhile.
func (m *machine) goBack() {
	t := m.trial
	old, from := t.old, t.g.from
	m.current = old
	old.state = serving
	old.successor = nil
	began := time.Now()
	go func() { // ends with the generation, or before
		go sockets.WakeAt(from.Sockets())(t.g.ctx) // it may have been told of clients that it never takes
		err := t.g.process.SwitchBack(old.ctx)
		from.ListenAgain()
		err = errors.Join(err, old.process.Ungate(old.ctx, from.Sockets()))
		m.post(func() { m.wentBack(t, began, err) })
	}()
}

// wentBack ends the restart.
func (m *machine) wentBack(t *probation, began time.Time, err error) {
	if err != nil && t.old.state != over {
		m.log.Error("the old generation does not accept again wholly", "generation", t.old.number, "error", err.Error())
	}
	if t.old.state != over {
		m.log.Info("generation serves again", "generation", t.old.number, "took", since(began))
		m.host.promoted(t.old.process.Leader())
	}
	t.returned = true
	m.endWayBack(t)
}

// buryFailed follows the last process of a generation that has failed on probation.
func (m *machine) buryFailed(g *generation) {
	t := m.trial
	if t == nil || t.g != g {
		m.exit = g.status.Code() // huptime is ending
		return
	}
	if t.old == nil {
		m.dropTrial()
		m.current = nil
		from := g.from
		g.from = nil
		if from != nil {
			from.Unclaim()
		}
		m.openGap(from, t.gap.endless)
		m.gap.tries = t.gap.tries
		m.retry(t.reason, g.status.Code())
		return
	}
	t.buried = true
	m.endWayBack(t)
}

// endWayBack follows when the new generation is gone and the old one accepts again.
func (m *machine) endWayBack(t *probation) {
	if !t.returned || !t.buried {
		return
	}
	m.dropTrial()
	from := t.g.from
	t.g.from = nil
	if t.old.state == over {
		// It ended while it took over: as if it had ended while its successor started.
		if from != nil {
			from.Close()
		}
		m.serviceEnded(t.old)
		return
	}
	if from != nil {
		wake(from)
		from.Close()
	}
	t.old.process.HandOver(nil)
	m.begun = time.Time{}
	m.failed(t.g.number, t.reason)
	m.nextRestart()
}

// failed says that a restart has failed: why, and who serves on.
func (m *machine) failed(number int, reason string, more ...any) {
	m.begun = time.Time{}
	args := []any{"generation", number, "reason", reason}
	if m.current != nil {
		args = append(args, "serves", m.current.number, "pid", m.current.process.Leader(), "since", m.current.promoted.Format(time.RFC3339))
	}
	m.log.Error("restart failed", append(args, more...)...)
}

// endedEarly says how a generation ended that was not ready yet, and how far it had come.
func (m *machine) endedEarly(g *generation) string {
	reason := g.ended()
	if g.process == nil || !g.reaped {
		return reason
	}
	reason += ", " + since(g.began) + " after its start"
	if words, _ := g.process.Lacking(); words != "" && g.running {
		reason += "; " + words
	}
	return reason
}
