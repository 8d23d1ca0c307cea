package remote

import (
	"time"

	"golang.org/x/sys/unix"
)

// restoreLimit bounds the wait for a stop of a thread that has nothing in its way.
const restoreLimit = 2 * time.Second

// restore gives a stopped thread that has made-up registers its own ones back, and its own mask, and leaves it at a stop without a
// signal. Behind a call that was interrupted, or answered late, the thread is at the event stop that was asked for, and the trap of
// its step may be pending.
func (t *thread) restore(trapPending bool) error {
	if err := writeRegisters(t.tid, t.owed); err != nil {
		return err
	}
	// If the supervisor ended at the trap, or let the thread go before it, the kernel would deliver its SIGTRAP, and that kills.
	const trap = 1 << (unix.SIGTRAP - 1)
	for range 8 {
		if !trapPending {
			break
		}
		if p, ok := readPending(t.tid); !ok || p.own&trap == 0 {
			break
		}
		// It takes no step on the way: the signal is reported before it leaves the kernel.
		if ptrace(unix.PTRACE_CONT, t.tid, 0, 0) != 0 {
			return ErrGone
		}
		if _, err := t.await(time.Now().Add(restoreLimit)); err != nil {
			return err
		}
	}
	if ptrace(unix.PTRACE_INTERRUPT, t.tid, 0, 0) != 0 || ptrace(unix.PTRACE_CONT, t.tid, 0, 0) != 0 {
		return ErrGone
	}
	if _, err := t.await(time.Now().Add(restoreLimit)); err != nil {
		return err
	}
	if signalMask(unix.PTRACE_SETSIGMASK, t.tid, &t.mask) != 0 {
		return ErrGone
	}
	t.owed = nil
	return nil
}
