package sockets

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/waitstate"
)

// waiter is a thread that waits in accept on a gated socket since before the
// gate was set.
type waiter struct {
	pid, tid int
	call     acceptCall
	seen     int  // how often in a row it was seen in the call
	stopped  bool // it was taken out of its system call
	// continued is when it was let go on, for one whose position is not known: whether it was inside an accept
	// at all shows by its asking again, at once, or not.
	continued time.Time
	ran       time.Duration // for how long it had run at the first look; negative where that can't be told
}

// waiters finds those that wait on the sockets that which picks by their inodes. Of processes that can't be looked into it finds
// all that were not swapped, or, where swapped says so, those that were.
func (t *Tracker) waiters(ctx context.Context, which func(inode uint64) bool, swapped bool) []*waiter {
	t.mu.Lock()
	calls := make(map[int]acceptCall, len(t.accepting))
	for tid, call := range t.accepting {
		calls[tid] = call
	}
	t.mu.Unlock()

	var candidates []*waiter
	for tid, call := range calls {
		inode, ok, err := proc.DescriptorSocket(tid, int(call.fd))
		if err == nil && (!ok || !which(inode)) || err != nil && call.swapped != swapped {
			continue
		}
		pid, err := proc.Tgid(tid)
		if err != nil {
			continue
		}
		w := &waiter{pid: pid, tid: tid, call: call}
		if w.ran, err = proc.RunTime(pid, tid); err != nil {
			w.ran = -1
		}
		candidates = append(candidates, w)
	}
	return waiting(ctx, candidates)
}

// waiting picks those that are blocked in their call. One look does not tell: a thread
// whose call is just being answered looks as if it were inside, and a running
// one may be on its way. All are looked at again after they had time to go on: not by the clock, for on a busy machine a thread may be kept from
// running in the midst of its call for long, but by how long they have run.
func waiting(ctx context.Context, undecided []*waiter) []*waiter {
	const (
		looks    = 20 // where it can't be told how long a thread has run
		interval = time.Millisecond
		longest  = 10 * time.Millisecond
		limit    = 5 * time.Second
	)
	var found []*waiter
	began := time.Now()
	for look := 0; len(undecided) > 0 && time.Since(began) < limit; look++ {
		if look > 0 && !pause(ctx, min(time.Duration(look)*interval, longest)) {
			return append(found, undecided...)
		}
		var next []*waiter
		for _, w := range undecided {
			switch w.position() {
			case elsewhere:
				continue
			case unknown:
				found = append(found, w)
				continue
			case inCall:
				w.seen++
			case onTheMove:
				if w.seen = 0; w.hasRun() || w.ran < 0 && look >= looks {
					continue
				}
			}
			if w.seen > 1 {
				found = append(found, w)
			} else {
				next = append(next, w)
			}
		}
		undecided = next
	}
	return found
}

// hasRun tells whether the thread has run for so long since the first look that it can't be inside the same call and never have waited in it.
func (w *waiter) hasRun() bool {
	const enough = 2 * time.Millisecond
	now, err := proc.RunTime(w.pid, w.tid)
	return w.ran >= 0 && (err != nil || now-w.ran >= enough)
}

// position is where a thread is seen to be.
type position uint8

const (
	elsewhere position = iota
	inCall
	onTheMove // running: on its way into the call, or out of it, or far from it
	unknown   // it can't be looked at
)

func (w *waiter) position() position {
	now, err := proc.ReadSyscall(w.pid, w.tid)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return elsewhere // gone
	case err != nil:
		return unknown
	case now.Running:
		return onTheMove
	}
	if call, args := waitstate.CallOf(w.tid, w.call.abi, now); call == abi.Accept && int32(args[0]) == w.call.fd {
		return inCall
	}
	return elsewhere
}

// pause waits for d and tells whether ctx allowed it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
