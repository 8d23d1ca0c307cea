package restart

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proctree"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// live is a generation of real processes. It implements process.
type live struct {
	number   int
	launcher *notify.Launcher
	pidfd    int           // of the leader; owned; -1 where it could not be opened
	reaped   chan struct{} // closed when the leader was reaped; used where there is no pidfd
	tracker  *sockets.Tracker
	census   *proctree.Tree
	knocks   *sockets.Knocks
	gated    func() []*sockets.Socket // which sockets it must not accept on, once it is gated
	keep     bool                     // keep its listening sockets for its sudden end
	closes   bool                     // its calls of close are notified
	ready    int                      // where a pool's master is told that the generation is ready; owned; -1 without one
	notices  *notices                 // what it says of itself; nil where nobody asks
	prober   *prober
	staged   bool // it has sockets of its own
	// mustNotify tells whether it must say that it is ready.
	mustNotify func() bool
	trace      notify.Trace
	holders    func(pids []int) // is told at each Collect who has the listening sockets
	log        *slog.Logger
	exposed    bool // it is the first to go if memory runs out, until it is promoted
	score      int  // what it goes back to then

	astray    atomic.Int32 // how often a probe's command could not be led to it: see letIn
	sayAstray sync.Once

	shaken   chan struct{} // closed when the handshake is over and running was told
	ended    chan struct{}
	endOnce  sync.Once
	killOnce sync.Once
}

func (p *live) Leader() int { return p.launcher.PID }

func (p *live) Ended() <-chan struct{} { return p.ended }

func (p *live) end() { p.endOnce.Do(func() { close(p.ended) }) }

// AwaitReady implements process. The goroutine that serves the listener ends with the
// hangup, that is when the generation does.
func (p *live) AwaitReady(ctx context.Context, running func()) error {
	served := false
	err := p.launcher.Handshake(func(l *notify.Listener) {
		served = true
		go p.serve(l)
	})
	if err == nil {
		running()
		if p.keep {
			go p.tracker.Keep(p.ended)
		}
		if p.closes {
			go p.tracker.WatchCloses(p.ended)
		}
	}
	close(p.shaken)
	if err != nil {
		if !served {
			p.end() // there is no listener whose hangup could tell
		}
		return err
	}
	return p.awaitShown(ctx)
}

// awaitShown waits until the service has shown that it serves.
func (p *live) awaitShown(ctx context.Context) error {
	if err := p.tracker.AwaitReady(ctx); err != nil {
		return err
	}
	if err := p.tracker.Proven(ctx); err != nil {
		return err
	}
	if p.notices != nil && p.mustNotify() {
		if err := p.notices.await(ctx); err != nil {
			return err
		}
	}
	if err := p.prober.await(ctx); err != nil {
		return err
	}
	return p.tracker.TakeQueues(ctx)
}

// dialProbe connects a probe: to this generation alone, where it has a socket of its own.
func (p *live) dialProbe(ctx context.Context, network, address string) (net.Conn, error) {
	if p.staged {
		c, err := p.tracker.DialProbe(ctx, network, address)
		if !errors.Is(err, sockets.ErrShared) {
			return c, err
		}
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err == nil {
		sockets.NoteVisit(c)
	}
	return c, err
}

// Switch implements process.
func (p *live) Switch(ctx context.Context) error { return p.tracker.Switch(ctx) }

// SwitchBack implements process.
func (p *live) SwitchBack(ctx context.Context) error {
	_, err := p.tracker.SwitchBack(ctx) // which has logged what is lost
	return err
}

func (p *live) serve(l *notify.Listener) {
	if err := l.Serve(p.tracker, p.trace); err != nil {
		// Nobody answers its calls any more: a generation can't live on so.
		p.log.Error("the listener failed; the generation is killed", "generation", p.number, "error", err.Error())
		p.Kill()
		for len(p.census.Members(p.number)) > 0 {
			time.Sleep(killInterval)
		}
	}
	if err := l.Close(); err != nil {
		p.log.Error("cannot close a listener", "generation", p.number, "error", err.Error())
	}
	<-p.shaken // so that nobody hears of the end before the beginning
	p.end()
}

// Promoted implements process.
func (p *live) Promoted() {
	if p.exposed {
		go func() { // a few looks through /proc
			if left := cover(func() []int { return p.census.Members(p.number) }, p.score); left > 0 {
				p.log.Warn("processes may not be looked into: they stay the first to go if memory runs out", "generation", p.number, "processes", left)
			}
		}()
	}
	if p.ready >= 0 {
		unix.Write(p.ready, []byte{1})
	}
}

// Collect implements process.
func (p *live) Collect() (*sockets.Preserved, error) {
	p.census.Resolve(p.knocks.Generation)
	from, err := p.tracker.Collect(p.census.Members(p.number))
	if err == nil {
		p.holders(p.tracker.Holders())
	}
	return from, err
}

// HandOver implements process.
func (p *live) HandOver(to *sockets.Preserved) { p.tracker.HandOver(to) }

// emptyLimit is how long a generation that can't be gated may take to serve what waits in surplus sockets.
const emptyLimit = 2 * time.Second

// Shrink implements process.
func (p *live) Shrink(from *sockets.Preserved) { p.tracker.Shrink(from) }

// Gather implements process.
func (p *live) Gather(from *sockets.Preserved) { p.tracker.Gather(from) }

// Gate implements process.
func (p *live) Gate(ctx context.Context, which func() []*sockets.Socket) (int, error) {
	p.gated = which
	p.census.Resolve(p.knocks.Generation)
	if err := p.tracker.Gate(ctx, which()); err != nil {
		if errors.Is(err, sockets.ErrOpaque) {
			// Its stop signal is next, which closes the sockets that its successor has no use for.
			ctx, cancel := context.WithTimeout(ctx, emptyLimit)
			defer cancel()
			p.tracker.AwaitEmptied(ctx)
		}
		return 0, err
	}
	return p.tracker.Outstanding(p.newer)
}

// AwaitDrained implements process. It follows Gate.
func (p *live) AwaitDrained(ctx context.Context, stop func()) error {
	// It asks for these now and then, and gates who is there by then.
	which := func() []*sockets.Socket {
		p.census.Resolve(p.knocks.Generation)
		return p.gated()
	}
	return p.tracker.AwaitDrained(ctx, which, p.newer, stop)
}

// AwaitFinished implements process. It follows Gate.
func (p *live) AwaitFinished(ctx context.Context) { p.tracker.AwaitFinished(ctx, p.newer) }

// Ungate implements process.
func (p *live) Ungate(ctx context.Context, list []*sockets.Socket) error {
	return p.tracker.Ungate(ctx, list)
}

// AwaitServing implements process.
func (p *live) AwaitServing(ctx context.Context) error { return p.tracker.AwaitServing(ctx) }

// Lacking implements process.
func (p *live) Lacking() (words string, undropped bool) {
	if words, undropped = p.tracker.Lacking(); words != "" {
		return words, undropped
	}
	if p.notices != nil && p.mustNotify() {
		if words = p.notices.lacking(); words != "" {
			return words, false
		}
	}
	return p.prober.lacking(), false
}

// AwaitAccepting implements process.
func (p *live) AwaitAccepting(ctx context.Context, quiet time.Duration) error {
	return p.tracker.AwaitAccepting(ctx, quiet)
}

// Doubt implements process.
func (p *live) Doubt() { p.tracker.Doubt() }

// AwaitAgain implements process.
func (p *live) AwaitAgain(ctx context.Context) error { return p.awaitShown(ctx) }

// AwaitBad implements process.
func (p *live) AwaitBad(ctx context.Context) error { return p.prober.awaitBad(ctx) }

// Kept implements process.
func (p *live) Kept() *sockets.Preserved { return p.tracker.TakeKept() }

// Obstacle implements process.
func (p *live) Obstacle() string { return p.tracker.Obstacle() }

// newer lists the processes of later generations.
func (p *live) newer() []int { return p.census.After(p.number) }

// Close implements process.
func (p *live) Close() {
	p.census.Ended(p.number)
	if p.notices != nil {
		go p.notices.close() // which waits for its goroutines
	}
	p.tracker.Close()
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
	}
	if p.ready >= 0 {
		unix.Close(p.ready)
	}
}
