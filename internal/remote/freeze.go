package remote

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// Errors that callers tell apart.
var (
	// ErrGone says that the process has ended.
	ErrGone = os.ErrNotExist
	// ErrDenied says that the process may not be traced: another user's, not
	// dumpable, traced by somebody else, or Yama forbids it.
	ErrDenied = errors.New("the process can't be traced")
	// ErrForeign says that the process runs code of an ABI for which no calls are made: 32-bit code on
	// arm64, and what has no system call instruction of its own.
	ErrForeign = errors.New("the process runs code for which no calls are made")
	// ErrSlow says that a thread did not stop in time, because it sleeps uninterruptibly.
	ErrSlow = errors.New("a thread did not stop in time")
)

// Frozen is a process whose threads are all stopped. It belongs to the OS thread that
// froze it: all methods must be called by the same goroutine. Thaw must be called.
type Frozen struct {
	tracer  *Tracer
	pid     int
	threads []*thread
	calls   caller
	only    int           // the one thread that is to stop; 0: all
	asked   func(tid int) // see FreezeAfter
}

// thread is a frozen thread.
type thread struct {
	claim
	tid  int
	head bool // it is the first of its process
	// before is where it was seen last; only what can't be told of a stopped thread is used.
	before proc.Syscall
	mask   uint64 // its own set of blocked signals
	// owed are its own registers, while it has made-up ones and all signals blocked; else nil.
	owed *registers
}

// Freeze stops every thread of the process, also those that are born meanwhile. What it
// waits for is bounded by limit, for the whole. On an error nothing stays stopped, but what is late (see Tracer). It locks the
// goroutine to its OS thread until Thaw: ptrace requests must come from the thread that attached.
//
// A thread inside a notified call (WAIT_KILLABLE_RECV) stops when it is answered, so the listener must be
// served meanwhile.
func (tr *Tracer) Freeze(pid int, limit time.Duration) (*Frozen, error) {
	return tr.FreezeAfter(pid, limit, func(int) {})
}

// FreezeAfter is Freeze, and calls asked for each thread when it is asked to stop, by this tracer or another one, and
// before it is waited for, perhaps several times: an answer to a notified call of the thread that is given then finds
// it about to stop, so that it may be one which the kernel acts on at a stop alone (ERESTARTSYS).
func (tr *Tracer) FreezeAfter(pid int, limit time.Duration, asked func(tid int)) (*Frozen, error) {
	return tr.begin(&Frozen{tracer: tr, pid: pid, asked: asked}, limit)
}

// FreezeThread is FreezeAfter for one thread alone: the others of its process run on, and see nothing of it.
func (tr *Tracer) FreezeThread(pid, tid int, limit time.Duration, asked func(tid int)) (*Frozen, error) {
	return tr.begin(&Frozen{tracer: tr, pid: pid, only: tid, asked: asked}, limit)
}

func (tr *Tracer) begin(f *Frozen, limit time.Duration) (*Frozen, error) {
	runtime.LockOSThread()
	freezing.RLock()
	if err := f.freeze(time.Now().Add(limit)); err != nil {
		f.Thaw()
		return nil, fmt.Errorf("cannot freeze process %d: %w", f.pid, err)
	}
	return f, nil
}

// toStop lists the threads that are to stop.
func (f *Frozen) toStop() ([]int, error) {
	if f.only != 0 {
		return []int{f.only}, nil
	}
	return proc.Threads(f.pid)
}

func (f *Frozen) freeze(deadline time.Time) error {
	known := make(map[int]bool)
	for {
		// A thread that is frozen can't fork, so one look that finds nobody new
		// is the last one.
		tids, err := f.toStop()
		if err != nil {
			return err
		}
		var fresh []*thread
		for _, tid := range tids {
			if known[tid] {
				continue
			}
			known[tid] = true
			t, err := f.seizeInTime(tid, deadline)
			if errors.Is(err, ErrGone) {
				continue
			}
			if err != nil {
				return err
			}
			f.threads = append(f.threads, t)
			fresh = append(fresh, t)
			f.asked(tid)
		}
		if len(fresh) == 0 {
			if len(f.threads) == 0 {
				return ErrGone
			}
			return nil
		}
		// All were interrupted before the first is waited for: they stop side by side.
		for _, t := range fresh {
			switch err := t.untilFrozen(deadline); {
			case errors.Is(err, ErrGone):
				f.drop(t)
				t.bury()
				t.disclaim()
			case err != nil:
				return err
			}
		}
	}
}

func (f *Frozen) drop(t *thread) {
	for i, other := range f.threads {
		if other == t {
			f.threads = append(f.threads[:i], f.threads[i+1:]...)
			return
		}
	}
}

// stop is how a stopped thread's status reads (ptrace(2), "Stopped states").
const eventStop = 128 // PTRACE_EVENT_STOP

// untilFrozen waits for the stop that PTRACE_INTERRUPT asked for. A signal that comes
// before is let through first: the thread goes on to its handler's first instruction at most, then it stops.
func (t *thread) untilFrozen(deadline time.Time) error {
	for {
		status, err := t.await(deadline)
		if err != nil {
			return err
		}
		if status>>8 == eventStop {
			break
		}
		if errno := ptrace(unix.PTRACE_CONT, t.tid, 0, uintptr(status&0xff)); errno != 0 {
			return ErrGone
		}
	}
	if errno := signalMask(unix.PTRACE_GETSIGMASK, t.tid, &t.mask); errno != 0 {
		return ErrGone
	}
	return nil
}

// await waits for the next stop, with short sleeps: there is no wait with a limit that
// leaves exits to others.
func (t *thread) await(deadline time.Time) (int32, error) {
	const spins = 20
	for i := 0; ; i++ {
		status, stopped, errno := waitStopped(t.tid)
		switch {
		case stopped:
			return status, nil
		case errno == unix.ECHILD || errno == 0 && i%64 == 63 && dying(t.tid):
			return 0, ErrGone
		case errno != 0 && errno != unix.EINTR:
			return 0, os.NewSyscallError("waitid", errno)
		}
		if i < spins {
			// Not runtime.Gosched, which parks this OS thread and hands what it has to another one.
			unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			continue
		}
		if time.Now().After(deadline) {
			return 0, ErrSlow
		}
		nap := unix.Timespec{Nsec: int64(min(i-spins+1, 20)) * 10_000}
		unix.Nanosleep(&nap, nil)
	}
}

// Thaw lets every thread go on, but those that are late: see Tracer. It may be called on an error path at any time, once.
func (f *Frozen) Thaw() {
	defer runtime.UnlockOSThread()
	var taken uint64
	for _, t := range f.threads {
		if !t.release(&taken) {
			f.tracer.keep(t)
			continue
		}
		t.disclaim()
		if t.head && len(f.threads) > 1 {
			untilTaken(f.pid) // /proc lists it before the others
		}
	}
	f.threads = nil
	freezing.RUnlock()
	if f.tracer.waits {
		f.tracer.untilNoneLate()
	}
}

// release lets the thread go, as it was. An interrupted wait that the kernel would not restart is made anew, unless
// a signal with a handler interrupts it anyway. It fails where the thread has not stopped yet: only a stopped one can be
// written to, or detached.
func (t *thread) release(taken *uint64) (released bool) {
	var r registers
	if readRegisters(t.tid, &r) != nil {
		// It is gone; or has not stopped yet, because the freeze, or a call, was given up.
		if _, err := t.await(time.Now().Add(releaseLimit)); errors.Is(err, ErrGone) {
			t.bury()
			return true
		}
	}
	return t.letGo(taken)
}

// letGo is release without a wait.
func (t *thread) letGo(taken *uint64) (released bool) {
	if t.owed != nil && t.restore(true) != nil {
		return t.buried()
	}
	var r registers
	if readRegisters(t.tid, &r) == nil {
		if back := r.rewound(r.wait(t.tid, t.before)); back != r && !interruption(t.tid, taken) {
			writeRegisters(t.tid, &back)
		}
	}
	// Not after it: a thread that is let go may be in a notified call by then.
	t.asked.Store(false)
	if errno := ptrace(unix.PTRACE_DETACH, t.tid, 0, 0); errno == 0 {
		return true
	}
	t.asked.Store(true)
	return t.buried()
}

// buried buries the thread if it has ended, and tells whether it has.
func (t *thread) buried() bool {
	if !dying(t.tid) {
		return false
	}
	t.bury()
	return true
}

// releaseLimit bounds how long Thaw waits for a thread that is about to end, or to stop. After it the thread is late.
const releaseLimit = 100 * time.Millisecond

// bury takes the exit of a thread that ended while it was traced: until its tracer has done that, the process can't
// end. The exit of a process's first thread is its parent's, or the supervisor's reaper's, to take.
func (t *thread) bury() {
	if !t.head {
		takeExit(t.tid)
	}
}
