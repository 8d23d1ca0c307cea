package restart

import (
	"time"

	"github.com/huptime/huptime/sockets"
)

// gap is the time in which no generation serves: in exec mode from the moment when the old one is gated until the new one is
// ready, and with Config.Revive after the service has ended by itself. Clients wait in the accept
// queues of the preserved sockets.
type gap struct {
	from    *sockets.Preserved // nil where there is none; owned, but by the generation that starts while there is one
	tries   int                // how many starts have failed
	timer   *time.Timer        // the next try; nil while a generation drains or starts
	endless bool               // tried again for ever
}

// Pauses between starts grow from the shortest to the longest, and are the shortest again after a generation has served for
// as long as provesItself.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
	provesItself  = 10 * time.Second
)

// execRestart begins a restart in exec mode: the old generation is retired first.
func (m *machine) execRestart(from *sockets.Preserved) {
	m.openGap(from, m.cfg.Revive.ever())
	if m.cfg.plain {
		m.endGeneration(m.current, "plain restart: clients are refused until the service has started again")
		return
	}
	old := m.current
	m.retire(old, nil, func() error { old.process.Gather(from); return nil }, from.WithoutSurplus)
}

// openGap takes over the sockets for which clients will wait.
func (m *machine) openGap(from *sockets.Preserved, endless bool) {
	m.gap = &gap{from: from, endless: endless}
	if from == nil {
		return
	}
	if err := from.Deepen(); err != nil {
		m.log.Warn("cannot deepen an accept queue; more clients than the service foresaw are refused until it is back", "error", err.Error())
	}
}

// fillGap starts a generation where none serves.
func (m *machine) fillGap() {
	if m.gap.timer != nil {
		m.gap.timer.Stop()
		m.gap.timer = nil
	}
	if m.gap.from != nil {
		m.gap.from.Abandoned()
	}
	m.launch(m.gap.from)
}

// startAgain sets the time of the next start in a gap. why says what makes it needed.
func (m *machine) startAgain(why string) {
	g := m.gap
	if m.pending { // a SIGHUP that came meanwhile brings it at once
		m.pending = false
		m.fillGap()
		return
	}
	if m.pause == 0 {
		m.pause = shortestPause
	}
	waiting := 0
	if g.from != nil {
		waiting = len(g.from.Sockets())
	}
	m.log.Warn("service is started again; clients wait meanwhile", "reason", why, "in", m.pause.String(), "sockets", waiting)
	g.timer = m.after(m.pause, func() {
		if m.gap == g && g.timer != nil {
			m.fillGap()
		}
	})
	m.pause = min(2*m.pause, longestPause)
}

// retry follows a start in a gap that has failed, with the exit status that huptime would end with.
func (m *machine) retry(reason string, code int) {
	g := m.gap
	if g.from != nil {
		g.from.Unclaim()
	}
	g.tries++
	if !g.endless && g.tries > m.cfg.StartRetries && !m.pending {
		m.log.Error("service given up", "starts", g.tries, "reason", reason)
		m.closeGap(code)
		return
	}
	m.startAgain(reason)
}

// hupInGap answers a SIGHUP while no generation serves: the next start is due now.
func (m *machine) hupInGap() {
	switch {
	case m.next != nil:
		m.pending = true
		m.log.Info("restart wanted; it waits", "for", "the restart that runs")
	case m.gap.timer != nil:
		m.pause, m.gap.tries = 0, 0
		m.fillGap()
	default:
		m.log.Info("restart wanted; the one that runs starts the service after this")
	}
}

// closeGap gives the preserved sockets up: huptime ends.
func (m *machine) closeGap(code int) {
	if m.gap.timer != nil {
		m.gap.timer.Stop()
	}
	if m.gap.from != nil {
		m.gap.from.Close()
	}
	m.gap = nil
	m.exit = code
	m.ending = true
	m.pending = false
	m.endOthers()
}

// revives tells whether the service is started anew after it has ended by itself as g did.
func (m *machine) revives(g *generation) bool { return !m.ending && m.cfg.Revive.after(g.status) }

// revive starts the service anew. kept are the sockets that clients wait on, or nil.
func (m *machine) revive(g *generation, kept *sockets.Preserved) {
	if kept = m.cfg.standing.Join(kept, false); kept != nil {
		kept.Unclaim()
	}
	if !g.promoted.IsZero() && time.Since(g.promoted) >= provesItself {
		m.pause = 0
	}
	m.openGap(kept, true)
	m.startAgain("the service ended: " + g.ended())
}
