package sockets

import (
	"time"

	"huptime/internal/proc"
)

const (
	// settleLimit bounds how long threads are waited for that were taken out of their calls.
	settleLimit = time.Second
	// settled is more than such a thread needs to get back there: one that has run for longer is at work.
	settled = time.Millisecond
)

// untilSettled waits until no thread of the processes is on its way back into a call that a freeze, or a stop and a
// continue signal, took it out of. A signal that is to wake a thread would else come before it sleeps: its handler
// runs, and then it sleeps. (A thread in pause(2), on a busy machine, missed one stop signal of a hundred so.) each
// is called for every thread at every look.
func untilSettled(pids []int, each func(tid int)) {
	deadline := time.Now().Add(settleLimit)
	for _, pid := range pids {
		began := make(map[int]time.Duration)
		for !allSettled(pid, began, each) && time.Now().Before(deadline) {
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// allSettled is one look; began is how long each thread had run when it was first seen on its way.
func allSettled(pid int, began map[int]time.Duration, each func(tid int)) bool {
	tids, err := proc.Threads(pid)
	if err != nil {
		return true // it is gone
	}
	all := true
	for _, tid := range tids {
		each(tid)
		state, err := proc.ThreadState(pid, tid)
		if err != nil || state != 'R' && state != 't' {
			continue
		}
		ran, err := proc.RunTime(pid, tid)
		if err != nil {
			continue
		}
		if _, seen := began[tid]; !seen {
			began[tid] = ran
		}
		if state == 't' || ran-began[tid] < settled {
			all = false
		}
	}
	return all
}
