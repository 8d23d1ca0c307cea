package restart

import (
	"context"
	"errors"
	"time"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// gone notes that every process of g has ended.
func (m *machine) gone(g *generation) {
	g.gone = true
	m.reapAll() // the leader's status is there, if it was the supervisor's child
	m.buryIfOver(g)
}

// reapAll collects the statuses of all ended children, leaders or not.
func (m *machine) reapAll() {
	children, ok := m.host.reap()
	if !ok {
		if !m.reaping {
			m.reaping = true
			m.after(reapAgain, func() { m.reaping = false; m.reapAll() })
		}
		return
	}
	for _, child := range children {
		for _, g := range m.living {
			switch {
			case g.process.Leader() == child.pid && !g.reaped:
				g.reaped, g.status = true, child.status
				g.memory = m.outOfMemory(g)
				g.daemon = child.status.Code() == 0
				if !g.gone {
					m.log.Debug("leader ended", "generation", g.number, "status", g.ended())
					m.leaderEnded(g)
				}
			case child.generation == g.number && g.daemon && !g.killed:
				g.status = child.status // its leader has ended well: what counts is who ends last
			}
		}
	}
	for _, g := range append([]*generation(nil), m.living...) {
		m.buryIfOver(g)
	}
}

// leaderEnded follows the end of a leader that leaves others behind. After TERM or INT they
// have as long as an old generation has: nobody signals them any more.
func (m *machine) leaderEnded(g *generation) {
	switch {
	case m.ending:
		m.killLater(g)
		return
	case g.limited:
		m.stopRest(g)
	}
	if g.status.Code() != 0 {
		m.provenBad(g)
	}
}

// reapAgain is how soon children are looked for again after that could not be done.
const reapAgain = 2 * time.Millisecond

// buryIfOver decides what the end of a generation means.
func (m *machine) buryIfOver(g *generation) {
	if !g.gone || !g.reaped || g.state == over {
		return
	}
	was := g.state
	g.state = over
	g.cancel()
	for i, other := range m.living {
		if other == g {
			m.living = append(m.living[:i:i], m.living[i+1:]...)
			break
		}
	}
	g.kept = g.process.Kept()
	g.process.Close()
	if g.running {
		m.log.Info("generation ended", "generation", g.number, "status", g.ended(), "was", was.String())
	}
	switch {
	case was == starting:
		m.gaveUp(g, g.failure)
	case m.provenBad(g):
		m.buryFailed(g)
	case m.trial != nil && m.trial.back && m.trial.old == g:
		// It was about to take over again: see endWayBack.
	case g == m.current:
		m.serviceEnded(g)
	case g.successor != nil:
		m.settle(g.successor)
		if m.trial != nil && m.trial.old == g {
			m.trusted(g.successor) // there is nobody left to go back to
		}
	}
	if g.kept != nil { // nobody took it over
		g.kept.Close()
	}
	m.nextRestart()
}

// takeKept hands over the sockets that were kept for the sudden end of g.
func (g *generation) takeKept() *sockets.Preserved {
	kept := g.kept
	g.kept = nil
	return kept
}

// gaveUp ends a start that failed. A failed restart leaves the old generation as it was.
func (m *machine) gaveUp(g *generation, why error) {
	reason := m.endedEarly(g)
	code := g.status.Code()
	if why != nil {
		reason = why.Error()
		code = ExitFailure
		var launch *notify.LaunchError
		if errors.As(why, &launch) {
			code = launch.ExitStatus()
		} else if errors.Is(why, notify.ErrLauncherDied) && g.reaped {
			reason, code = m.endedEarly(g), g.status.Code()
		}
	}
	if g.process != nil && g.process.Obstacle() != "" {
		reason += "; " + g.process.Obstacle()
	}
	if why == nil {
		m.foundAnother(g)
	}
	m.next = nil
	from := g.from
	g.from = nil
	switch {
	case m.gap != nil && m.ending:
		m.closeGap(code)
		return
	case m.gap != nil:
		m.retry(reason, code)
		return
	case m.current == nil && g.running && m.revives(g):
		if kept := g.takeKept(); kept != nil && from == nil {
			from = kept
		} else if kept != nil {
			from.Adopt(kept)
		}
		m.revive(g, from)
		return
	case g.number == 1:
		m.ending = true
		m.exit = code
		if why != nil && !errors.Is(why, notify.ErrLauncherDied) {
			m.err = why
		}
		return
	}
	if from != nil {
		if m.current != nil {
			from.ListenAgain()
			wake(from)
		}
		from.Close()
	}
	m.begun = time.Time{}
	if m.current != nil {
		m.current.process.HandOver(nil) // nobody else uses its paths any more
	}
	m.failed(g.number, reason)
	if m.current == nil {
		m.ending = true // the old one ended while this one started; m.exit is its status
	}
}

// wake sees to it that somebody is told of the clients that a generation was told of which is over. It goes on for a moment, and ends by itself.
func wake(of *sockets.Preserved) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	go of.Wake()(over)
}

// serviceEnded follows the end of the current generation. A successor that
// is on its way takes over; without one huptime ends with it.
func (m *machine) serviceEnded(g *generation) {
	m.current = nil
	m.exit = g.status.Code()
	switch {
	case m.gap != nil && m.ending:
		m.closeGap(m.exit)
		return
	case m.gap != nil: // exec mode: its time was over
		m.fillGap()
		return
	case m.next != nil && !m.ending:
		m.log.Warn("the service ended during its restart; the new generation takes over", "generation", m.next.number)
		if kept := g.takeKept(); kept != nil {
			m.next.from.Adopt(kept)
		}
		m.next.from.Abandoned()
		return
	case m.revives(g):
		m.revive(g, g.takeKept())
		return
	}
	m.ending = true
	m.pending = false
	m.endOthers()
}
