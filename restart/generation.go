package restart

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/huptime/huptime/sockets"
)

// state is where a generation is in its life; the package's comment has the
// picture.
type state uint8

const (
	starting state = iota // launched, not ready
	serving               // the current one
	gating                // being made to stop accepting
	standby               // gated, and ready to take over again while its successor is on probation
	draining              // finishes its connections
	stopping              // has got its stop signal
	over                  // every process is gone
)

func (s state) String() string {
	switch s {
	case starting:
		return "starting"
	case serving:
		return "serving"
	case gating:
		return "gating"
	case standby:
		return "standby"
	case draining:
		return "draining"
	case stopping:
		return "stopping"
	case over:
		return "over"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// generation is what the machine knows of one start of the service. Only the machine's
// goroutine touches it.
type generation struct {
	number   int
	state    state
	process  process
	began    time.Time
	promoted time.Time   // when it became the current one
	limit    *time.Timer // ends its start; stopped when it is ready, or over
	// from holds the sockets that it may claim: its predecessor's. It owns them.
	from *sockets.Preserved
	// successor is who replaced it, once somebody did.
	successor *generation

	kept     *sockets.Preserved // kept for its sudden end, once it is over; owned
	running  bool               // the service's own code ran
	failed   bool               // it was ready and failed on probation
	gone     bool               // every process is gone
	reaped   bool               // the leader's status is known
	daemon   bool               // the leader has ended with 0; others may live on
	status   Status             // valid when reaped
	kills    uint64             // how often the out-of-memory killer had struck when it was launched
	memory   string             // what the out-of-memory killer may have to do with its end
	failure  error              // why a starting one was given up
	killed   bool               // SIGKILL was sent
	stop     sigNumber          // the signal that it was told to end by; 0 until then
	limited  bool               // it is killed if it does not end by itself
	restTold bool               // those whom the leader has left behind were told to end
	ctx      context.Context
	cancel   context.CancelFunc // ends what runs on its behalf
	ungate   context.CancelFunc // ends its gating, which goes on otherwise; nil before
	awaited  context.CancelFunc // ends the wait for its readiness
}

// process is a generation as the machine acts on it. The methods with a
// context may take long and run on goroutines of their own; the others return at once.
type process interface {
	// Leader is the PID of the first process.
	Leader() int
	// AwaitReady returns nil when the generation has begun to wait on its
	// sockets. It calls running when the service's own code runs. A launch that failed
	// is an error that wraps a *notify.LaunchError.
	AwaitReady(ctx context.Context, running func()) error
	// AwaitAgain is AwaitReady for a generation that was ready once, and then was doubted.
	AwaitAgain(ctx context.Context) error
	// Ended is closed when every process of the generation is gone.
	Ended() <-chan struct{}
	// Promoted tells the generation that it is the current one.
	Promoted()
	// Collect duplicates the listening sockets. The caller owns what it returns.
	Collect() (*sockets.Preserved, error)
	// HandOver says that a successor is about to start, which may claim what is in to: the paths that both
	// use are the successor's from now on. nil takes it back, because the successor has failed.
	HandOver(to *sockets.Preserved)
	// Shrink is told what a successor that is ready could claim: where it has claimed only some sockets of a SO_REUSEPORT group, the
	// others get no clients any more, and this generation serves those that wait in them. It comes before Gate.
	Shrink(from *sockets.Preserved)
	// Gather is told what a successor will find that starts when this generation is over: of each SO_REUSEPORT group one socket gets all
	// clients from now on, and this generation serves those that wait in the others. It comes before Gate.
	Gather(from *sockets.Preserved)
	// Switch sends all clients to the sockets of its own that the generation has (Config.Stage); it does nothing where it has none. On an error the
	// clients are its predecessor's.
	Switch(ctx context.Context) error
	// SwitchBack undoes Switch.
	SwitchBack(ctx context.Context) error
	// Gate makes the generation stop accepting on the sockets that which lists, now and whenever it is
	// asked again during the drain, and tells how many accepted connections it has.
	Gate(ctx context.Context, which func() []*sockets.Socket) (int, error)
	// AwaitDrained waits until no accepted connection is left and calls stop before another
	// can be there; stop sends the stop signal. It returns ctx's error where ctx ends before.
	AwaitDrained(ctx context.Context, stop func()) error
	// AwaitFinished waits until the connections are gone that it has now, or ctx has ended. It is for a generation
	// that was sent its stop signal before it was drained.
	AwaitFinished(ctx context.Context)
	// Kept hands over the listening sockets that were kept for the generation's sudden end, or nil
	// (Config.Revive). The caller owns them.
	Kept() *sockets.Preserved
	// Ungate undoes Gate, because the successor has failed: the generation accepts again on these sockets.
	Ungate(ctx context.Context, sockets []*sockets.Socket) error
	// AwaitServing returns nil once the generation has been seen to wait for clients since it was called.
	AwaitServing(ctx context.Context) error
	// AwaitAccepting returns nil once it has been seen that the generation, which is ready and alone, accepts clients. It makes sure of it
	// by itself where none has come for as long as quiet. The error says where nobody accepts.
	AwaitAccepting(ctx context.Context, quiet time.Duration) error
	// Doubt says that it did not, and is to be asked for more by the next AwaitReady.
	Doubt()
	// AwaitBad returns the first answer of a probe that says that the generation does not serve, or nil when ctx has ended.
	AwaitBad(ctx context.Context) error
	// Lacking says in words what a starting generation has not shown yet that makes it ready. undropped tells that nothing is
	// missing but addresses of its predecessor's.
	Lacking() (words string, undropped bool)
	// Obstacle says why a bind of the generation had to fail, or nothing.
	Obstacle() string
	// Signal sends a signal to the leader, or, where that has ended, to those
	// that it left behind.
	Signal(sig syscall.Signal) error
	// SignalAll sends a signal to every process of the generation, once.
	SignalAll(sig syscall.Signal) error
	// Wrapper is the name of a leader that only waits for what it has started, or nothing.
	Wrapper() string
	// Kill ends every process of the generation, also those that it is about to fork.
	Kill()
	// Close gives back what the supervisor holds of an ended generation.
	Close()
}
