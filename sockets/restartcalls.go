package sockets

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// How long stopped processes may take to stop, and continued ones to issue
// their calls anew: in all, and for each thread besides, because processes are stopped a few at a time. (With a limit
// for all alone, a quarter of 1,000 prefork workers and more were left waiting in accept on a busy machine, and could have taken connections
// with them at the stop signal.) A process in uninterruptible sleep may take longer; the drain then goes on without it.
const (
	restartLimit = 2 * time.Second
	restartEach  = 20 * time.Millisecond
)

// restartBatch is how many processes are stopped at a time. Waiting for one after the other takes longest where many share a
// socket; and nobody should stay stopped while hundreds of others are waited for.
const restartBatch = 16

// unknownLimit is how long a thread that can't be looked at may take to ask again. One that waited in accept does so
// within its first microseconds on a processor.
const unknownLimit = 100 * time.Millisecond

// asking are the threads that have to issue their accept anew and have not done so yet.
type asking struct {
	mu    sync.Mutex
	asked map[int]*waiter
	again chan struct{} // gets a value when one has
}

func newAsking() *asking {
	return &asking{asked: make(map[int]*waiter), again: make(chan struct{}, 1)}
}

// answered notes that a thread has issued an accept that it was made to issue anew, and
// tells whether it was stopped for that.
func (a *asking) answered(tid int) (issuedAnew bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.asked[tid]
	if w == nil {
		return false
	}
	delete(a.asked, tid)
	ping(a.again)
	return w.stopped
}

// stopped notes that the thread has been taken out of its system call.
func (a *asking) stopped(tid int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.asked[tid]; w != nil {
		w.stopped = true
	}
}

// restartCalls makes threads that wait in accept on a socket that is to be another issue their call
// anew, so that it is notified: SIGSTOP takes all threads of the process
// out of their system calls, and SIGCONT lets the kernel restart them (signal(7),
// "Interruption of system calls and library functions by stop signals").
// Only processes with such a thread are stopped, for less than a
// millisecond as a rule.
func (a *asking) restartCalls(ctx context.Context, waiting []*waiter) error {
	if len(waiting) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, restartLimit+time.Duration(len(waiting))*restartEach)
	defer cancel()
	blocked := make(map[int][]int) // process → its waiting threads
	a.mu.Lock()
	for _, w := range waiting {
		a.asked[w.tid] = w
		blocked[w.pid] = append(blocked[w.pid], w.tid)
	}
	a.mu.Unlock()

	batch := make(map[int][]int, restartBatch)
	for pid, tids := range blocked {
		if batch[pid] = tids; len(batch) == restartBatch {
			a.interrupt(ctx, batch)
			clear(batch)
		}
	}
	a.interrupt(ctx, batch)
	return a.untilAsked(ctx, len(waiting))
}

// interrupt stops processes, given with their waiting threads, and lets them go on.
func (a *asking) interrupt(ctx context.Context, batch map[int][]int) {
	stopped := make(map[int]int, len(batch)) // process → descriptor
	// Whatever happens below, nobody stays stopped.
	defer func() {
		for pid, pidfd := range stopped {
			unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)
			unix.Close(pidfd)
			a.continued(batch[pid])
		}
	}()
	for pid := range batch {
		// One that somebody else has stopped stays as it is: its calls are
		// issued anew when that somebody lets it go on.
		if state, err := proc.ThreadState(pid, pid); err != nil || state == 'T' || state == 't' {
			continue
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone
		}
		if err := unix.PidfdSendSignal(pidfd, unix.SIGSTOP, nil, 0); err != nil {
			unix.Close(pidfd)
			continue
		}
		stopped[pid] = pidfd
	}
	for pid := range stopped {
		for _, tid := range batch[pid] {
			if !untilStopped(ctx, pid, tid) {
				return
			}
			a.stopped(tid)
		}
	}
}

// continued notes that the threads may run again.
func (a *asking) continued(tids []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, tid := range tids {
		if w := a.asked[tid]; w != nil {
			w.continued = time.Now()
		}
	}
}

// untilStopped waits until the thread has stopped, or is gone. SIGCONT before that would
// cancel the stop.
func untilStopped(ctx context.Context, pid, tid int) bool {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		state, err := proc.ThreadState(pid, tid)
		if err != nil || state == 'T' || state == 't' || state == 'Z' || state == 'X' {
			return true
		}
		if !pause(ctx, wait) {
			return false
		}
	}
}

// untilAsked waits until every thread has issued its accept anew, or is gone, or
// does something else.
func (a *asking) untilAsked(ctx context.Context, all int) error {
	for {
		began := time.Now()
		left := a.stillAsked()
		// A look at a thousand threads takes its time, which those that answer them need.
		wait := max(10*time.Millisecond, 4*time.Since(began))
		for look := time.After(wait); left > 0 && look != nil; {
			select {
			case <-a.again:
				left = a.left()
			case <-look:
				look = nil
			case <-ctx.Done():
				return fmt.Errorf("%d of %d threads still wait in accept: %w", left, all, ctx.Err())
			}
		}
		if left == 0 {
			return nil
		}
	}
}

func (a *asking) left() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

// stillAsked forgets those that have left the call another way, and returns how many are left. The lock is not held meanwhile: whoever answers
// those that ask needs it.
func (a *asking) stillAsked() int {
	a.mu.Lock()
	asked := slices.Collect(maps.Values(a.asked))
	a.mu.Unlock()
	for _, w := range asked {
		position := w.position()
		a.mu.Lock()
		if gone := position == elsewhere || position == unknown && !w.continued.IsZero() && time.Since(w.continued) > unknownLimit; gone && a.asked[w.tid] == w {
			delete(a.asked, w.tid)
		}
		a.mu.Unlock()
	}
	return a.left()
}
