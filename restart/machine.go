package restart

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/huptime/huptime/sockets"
)

// machine is the state of everything. One goroutine owns it: run. All that
// happens elsewhere comes to it as a function through events.
type machine struct {
	cfg  Config
	log  *slog.Logger
	host host

	events chan func()
	ctx    context.Context // ends with run
	stop   context.CancelFunc

	living   []*generation // oldest first
	current  *generation   // the one that serves; nil while the first starts, or after it has ended
	next     *generation   // the one that starts to replace it
	highest  int           // number of the newest
	gap      *gap          // set while no generation serves, or is about to
	pause    time.Duration // before the next start in a gap
	begun    time.Time     // when the restart that runs was begun
	pending  bool          // one more restart is wanted
	ending   bool          // no restart any more; exit when nobody lives
	ends     int           // how many TERM and INT came
	ended    lastEnd       // the last one that counted
	checking *checking     // the check that a restart waits for, or nil
	trial    *probation    // the newest generation is on probation; else nil
	reaping  bool          // one more look for ended children is due
	exit     int
	err      error // why generation 1 could not be started
}

// host is what the machine needs of the world. Tests put in their own.
type host struct {
	// launch starts a generation that may claim sockets of from. The first one has nil.
	launch func(number int, from *sockets.Preserved) (process, error)
	// reap collects the statuses of ended children. It is not ok where it could not look just now.
	reap func() (list []reaped, ok bool)
	// promoted is told the leader of the generation that has become the current one.
	promoted func(leader int)
	// check runs the check. done is called once, later and on another goroutine. cancel kills it, with the reason; it
	// may be called at any time, on the machine's goroutine.
	check func(done func(output string, err error)) (cancel func(why error))

	// oomKills counts what the out-of-memory killer has struck; own tells that it is in huptime's own memory cgroup. nil where nobody counts.
	oomKills func() (kills uint64, own bool)
}

// reaped is an ended child of the supervisor's.
type reaped struct {
	pid        int
	status     Status
	generation int // whose it was, if that is known of one that the supervisor did not start itself
}

func newMachine(cfg Config, h host) *machine {
	ctx, stop := context.WithCancel(context.Background())
	return &machine{cfg: cfg, log: cfg.Log, host: h, events: make(chan func()), ctx: ctx, stop: stop}
}

// post hands a happening to the machine's goroutine. After run has returned it
// is dropped.
func (m *machine) post(f func()) {
	select {
	case m.events <- f:
	case <-m.ctx.Done():
	}
}

// call runs f on the machine's goroutine and returns when it has run, or run has returned.
func (m *machine) call(f func()) {
	done := make(chan struct{})
	m.post(func() { f(); close(done) })
	select {
	case <-done:
	case <-m.ctx.Done():
	}
}

// after posts f when d is over.
func (m *machine) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { m.post(f) })
}

// run starts generation 1 and returns huptime's exit status when the last
// generation is over. The error says why generation 1 could not be started.
func (m *machine) run(in *inbox) (int, error) {
	defer m.stop()
	m.launch(m.cfg.standing.Join(nil, true))
	for len(m.living) > 0 || m.gap != nil || m.trial != nil && m.trial.back {
		select {
		case f := <-m.events:
			f()
		case <-in.hup:
			m.hup()
		case sig := <-in.end:
			m.end(number(sig))
		case sig := <-in.forward:
			m.forward(number(sig))
		case <-in.child:
			m.reapAll()
		}
	}
	return m.exit, m.err
}

// launch starts the next generation.
func (m *machine) launch(from *sockets.Preserved) {
	m.highest++
	ctx, cancel := context.WithCancel(m.ctx)
	await, awaited := context.WithCancel(ctx)
	g := &generation{number: m.highest, began: time.Now(), from: from, ctx: ctx, cancel: cancel, awaited: awaited}
	g.kills, _ = m.oomKills()
	p, err := m.host.launch(g.number, from)
	if err != nil {
		cancel()
		m.gaveUp(g, err)
		return
	}
	g.process = p
	m.living = append(m.living, g)
	if g.number > 1 {
		m.next = g
	}
	// These end with the generation: AwaitReady by ctx, or when its launcher or the processes are
	// gone, the second by the hangup.
	told := make(chan struct{}) // closed when the machine knows that it runs, or why not
	tell := sync.OnceFunc(func() { close(told) })
	go func() {
		err := p.AwaitReady(await, func() { m.post(func() { m.running(g) }); tell() })
		m.post(func() { m.readiness(g, err) })
		tell()
	}()
	go func() {
		<-p.Ended()
		<-told // or the end of a failed launch would be heard of before its reason
		m.post(func() { m.gone(g) })
	}()
	g.limit = m.after(m.cfg.ReadyTimeout, func() { m.readyTimeout(g) })
	context.AfterFunc(ctx, func() { g.limit.Stop() })
}

// running notes that the launcher has become the service.
func (m *machine) running(g *generation) {
	g.running = true
	m.log.Info("generation started", "generation", g.number, "pid", g.process.Leader())
}

// readiness takes the outcome of a start.
func (m *machine) readiness(g *generation, err error) {
	if g.state != starting || g.failure != nil {
		return
	}
	if err != nil {
		m.giveUp(g, err)
		return
	}
	m.promote(g)
}

// readyTimeout gives a starting generation up. The first one has nothing to go back to: it stays.
func (m *machine) readyTimeout(g *generation) {
	if g.state != starting || g.failure != nil {
		return
	}
	words, undropped := g.process.Lacking()
	switch {
	case g.number == 1:
		m.log.Warn("generation 1 is not seen to wait for clients yet; it counts as ready", "waited", m.cfg.ReadyTimeout.String(), "why", words)
		m.promote(g)
	case m.current == nil && undropped:
		// There is nothing to go back to, and it serves what it has.
		m.log.Warn("not ready, and nobody else serves: it counts as ready", "generation", g.number, "why", words)
		m.promote(g)
	default:
		m.letGo(g, fmt.Errorf("not ready within %s: %s", m.cfg.ReadyTimeout, words))
	}
}

// giveUp kills a generation that starts. What that means is decided when it is over.
func (m *machine) giveUp(g *generation, why error) {
	g.failure = why
	g.cancel()
	m.kill(g)
}

// letGo gives a generation up that starts and may have clients already, because its predecessor and it accept from one queue: it finishes with them before it is
// killed, as long as an old generation may live after its stop signal.
func (m *machine) letGo(g *generation, why error) {
	if m.current == nil || g.from == nil || len(g.from.Claimed()) == 0 {
		m.giveUp(g, why)
		return
	}
	g.failure = why
	g.awaited()
	m.log.Info("the new generation is given up; it finishes with its clients", "generation", g.number, "why", why.Error())
	from := g.from
	go func() { // ends with the generation, or before
		ctx, cancel := context.WithTimeout(g.ctx, m.cfg.KillAfter)
		defer cancel()
		kill := func() {
			if g.state != over && !g.killed {
				m.kill(g)
			}
		}
		if _, err := g.process.Gate(ctx, from.Claimed); err == nil {
			_ = g.process.AwaitDrained(ctx, func() { m.call(kill) })
		}
		m.post(kill)
	}()
}

func (m *machine) kill(g *generation) {
	g.killed = true
	g.process.Kill()
}

// promote makes g the current generation and retires its predecessor.
func (m *machine) promote(g *generation) {
	old := m.current
	g.state = serving
	g.promoted = time.Now()
	g.limit.Stop() // or it would wake a supervisor that is at rest
	g.awaited()    // likewise
	gap := m.gap
	m.current, m.next, m.gap = g, nil, nil
	m.host.promoted(g.process.Leader())
	g.process.Promoted()
	m.log.Info("generation ready", "generation", g.number, "after", since(g.began))
	if old != nil {
		old.successor = g
		m.trial = m.newTrial(g, old)
		m.retire(old, g, func() error {
			err := g.process.Switch(g.ctx)
			if g.from != nil && err == nil {
				old.process.Shrink(g.from)
			}
			return err
		}, g.from.Claimed)
		return
	}
	if m.proves(g, gap) {
		return
	}
	m.settle(g) // its predecessor has ended already
	m.restarted(g)
	m.nextRestart()
}

// restarted says that the restart is over which g came of, if it came of one.
func (m *machine) restarted(g *generation) {
	if !m.begun.IsZero() {
		m.log.Info("restart finished", "generation", g.number, "took", since(m.begun))
		m.begun = time.Time{}
	}
}

// settle ends what the predecessor of g left: sockets that g did not claim are closed.
func (m *machine) settle(g *generation) {
	if g.from == nil || m.cfg.plain {
		return
	}
	unclaimed := g.from.Unclaimed()
	wake(g.from) // its predecessor may have been told of clients, and ended
	g.from.ReleaseClaimed()
	g.from.Close()
	g.from = nil
	for _, s := range unclaimed {
		if s.Standing() {
			m.log.Warn("nobody has claimed an address that huptime listens on; clients wait until somebody does", "address", s.String(), "generation", g.number)
			continue
		}
		m.log.Warn("nobody listens on an address any more; it is closed", "address", s.String(), "generation", g.number)
	}
}

// number is the signal's number: os.Signal is always one on Linux.
func number(sig os.Signal) sigNumber { return sig.(sigNumber) }

func since(t time.Time) string { return time.Since(t).Round(10 * time.Microsecond).String() }
