package remote

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// claims are the threads that tracers of this process have, or are about to have, by thread id: a second tracer is
// refused by the kernel in the same words (EPERM) as one who has no right to trace.
var claims sync.Map // of *thread

// claim is what other tracers may know of a thread.
type claim struct {
	short bool        // it is let go soon: see FreezeThread
	asked atomic.Bool // it was asked to stop; no answer but a stop, or its end, takes that back
	late  atomic.Bool // see Tracer
}

// take makes the thread this tracer's, or returns whose it is.
func (t *thread) take() *thread {
	if other, taken := claims.LoadOrStore(t.tid, t); taken {
		return other.(*thread)
	}
	return nil
}

// disclaim is called when the kernel has let the thread go.
func (t *thread) disclaim() { claims.CompareAndDelete(t.tid, t) }

// Stopping tells whether a thread was asked to stop by a tracer of this process and has not been let go since. Where it
// is in a notified call that was received, and not answered, it will stop as soon as it is answered: until then it
// can't be let go.
func Stopping(tid int) bool {
	t, ok := claims.Load(tid)
	return ok && t.(*thread).asked.Load()
}

// seizeInTime seizes a thread, also one that another tracer is about to let go.
func (f *Frozen) seizeInTime(tid int, deadline time.Time) (*thread, error) {
	for {
		t, other, err := seize(tid, tid == f.pid, f.only != 0)
		if other == nil {
			return t, err
		}
		switch {
		case f.only == 0 && other.late.Load():
			return nil, ErrSlow
		case f.only == 0 && !other.short && other.asked.Load():
			return nil, ErrDenied // it is frozen, and for as long as somebody needs; else it is about to be, or to be let go
		case time.Now().After(deadline):
			return nil, ErrSlow
		}
		if Stopping(tid) {
			f.asked(tid)
		}
		nap := unix.Timespec{Nsec: 200_000}
		unix.Nanosleep(&nap, nil)
	}
}

// seize asks a thread to stop. If it is another tracer's, that one's thread is returned and nothing done.
func seize(tid int, head, short bool) (own, other *thread, err error) {
	t := &thread{tid: tid, head: head, claim: claim{short: short}}
	if other := t.take(); other != nil {
		return nil, other, nil
	}
	if err := t.seize(); err != nil {
		t.disclaim()
		return nil, nil, err
	}
	return t, nil, nil
}

func (t *thread) seize() error {
	tid := t.tid
	t.before = beforeStop(tid)
	for _, request := range []int{unix.PTRACE_SEIZE, unix.PTRACE_INTERRUPT} {
		switch errno := ptrace(request, tid, 0, 0); errno {
		case 0:
		case unix.ESRCH:
			return ErrGone
		case unix.EPERM, unix.EACCES:
			if dying(tid) {
				return ErrGone // an exiting thread answers EPERM
			}
			return ErrDenied
		default:
			return os.NewSyscallError("ptrace", errno)
		}
	}
	t.asked.Store(true)
	return nil
}

// dying tells whether a thread is about to be gone.
func dying(tid int) bool {
	st, err := proc.ReadStat(tid)
	return err != nil || st.State == 'Z' || st.State == 'X'
}
