package restart

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/signals"
)

// Wrappers that do not become the service (sh, su, npm, make) stand between it and the stop signal. Some end by the signal and leave
// the service behind, some wait for it and hand nothing on.

// sendStop sends a generation the signal that is to end it: to its leader, or to all of it.
func (m *machine) sendStop(g *generation, sig sigNumber) {
	g.stop = sig
	if !m.cfg.StopGroup {
		// Where the leader has ended already, those that it left behind get it now.
		g.restTold = g.reaped
		m.signal(g, sig)
		return
	}
	g.restTold = true
	m.warnSignal(g, sig, g.process.SignalAll(sig))
}

// stopRest tells those whom the leader has left behind to end as well, once: when their connections are finished, or when half of
// the time is over that they have until they are killed.
func (m *machine) stopRest(g *generation) {
	if !g.reaped || g.gone || g.restTold || g.stop == 0 || m.cfg.Wait {
		return
	}
	g.restTold = true
	ctx, cancel := context.WithTimeout(g.ctx, m.cfg.KillAfter/2)
	go func() {
		defer cancel()
		g.process.AwaitFinished(ctx)
		m.post(func() {
			if g.gone || g.killed {
				return
			}
			m.log.Info("stop signal sent to those whom the leader has left behind", "generation", g.number, "signal", signals.Name(g.stop))
			m.warnSignal(g, g.stop, g.process.SignalAll(g.stop))
		})
	}()
}

// hint says what may be done about a generation that has not ended by its stop signal, or nothing.
func (m *machine) hint(g *generation) []any {
	if g.reaped || m.cfg.StopGroup {
		return nil
	}
	name := g.process.Wrapper()
	if name == "" {
		return nil
	}
	return []any{"hint", fmt.Sprintf("%s did not hand the stop signal on to what it runs: let it exec the service, or use --stop-group", name)}
}

// Wrapper implements process.
func (p *live) Wrapper() string { return wrapper(p.Leader(), p.census.Members(p.number)) }

// Wrapper implements process.
func (p *plain) Wrapper() string { return wrapper(p.Leader(), p.census.Members(p.number)) }

// wrapper is the name of a leader that only waits for others: it has a child and no socket of its own. A pool's master has none either, but
// it hands signals on.
func wrapper(leader int, members []int) string {
	name, err := proc.ReadComm(leader)
	if err != nil || strings.HasPrefix(name, "huptime-") {
		return ""
	}
	if !slices.ContainsFunc(members, func(pid int) bool {
		st, err := proc.ReadStat(pid)
		return err == nil && st.PPID == leader
	}) {
		return ""
	}
	links, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", leader))
	if err != nil {
		return ""
	}
	for _, l := range links {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", leader, l.Name()))
		if err == nil && strings.HasPrefix(to, "socket:") && !slices.Contains([]string{"0", "1", "2"}, l.Name()) {
			return ""
		}
	}
	return name
}

// sameKill is how close two TERM or INT follow each other that are one: timeout(1), for one, signals its child and then its group, which the
// child is in.
const sameKill = time.Second

// lastEnd is a TERM or INT that came.
type lastEnd struct {
	sig sigNumber
	at  time.Time
}

// again tells whether this one came with the one before. If not, it is the last one from now on.
func (l *lastEnd) again(sig sigNumber) bool {
	now := time.Now()
	if sig == l.sig && now.Sub(l.at) < sameKill {
		return true
	}
	*l = lastEnd{sig, now}
	return false
}
