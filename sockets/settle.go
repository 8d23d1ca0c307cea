package sockets

import (
	"maps"
	"time"

	"github.com/huptime/huptime/internal/proc"
)

const (
	// settleLimit bounds how long threads are waited for that were taken out of their calls. Only want of a processor
	// takes that long: on a busy machine runnable threads were seen to wait for one for two seconds.
	settleLimit = 5 * time.Second
	// settled is more than such a thread needs to get back there: one that has run for longer is at work.
	settled = time.Millisecond
)

// untilSettled waits until no thread of the processes is on its way back into a call that a freeze, or a stop and a
// continue signal, took it out of. A signal that is to wake a thread would else come before it sleeps: its handler
// runs, and then it sleeps. (A thread in pause(2), on a busy machine, missed one stop signal of a hundred so.) And the
// kernel would choose another one for a signal to the process, which may not be meant to have it: it passes over
// threads that are told to look for signals already, as these are (wants_signal in kernel/signal.c). each is called
// for every thread at every look.
func untilSettled(pids []int, each func(tid int)) {
	deadline := time.Now().Add(settleLimit)
	for _, pid := range pids {
		onTheirWay := make(map[int]time.Duration)
		for first := true; ; first = false {
			look(pid, first, onTheirWay, each)
			if len(onTheirWay) == 0 || time.Now().After(deadline) {
				break
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// look is one look at a process; onTheirWay is how long each thread that may be on its way had run at the first one.
// Whoever sleeps then, or is born later, is not.
func look(pid int, first bool, onTheirWay map[int]time.Duration, each func(tid int)) {
	tids, err := proc.Threads(pid)
	if err != nil {
		clear(onTheirWay) // it is gone
		return
	}
	before := maps.Clone(onTheirWay)
	clear(onTheirWay)
	for _, tid := range tids {
		each(tid)
		began, was := before[tid]
		if !first && !was {
			continue
		}
		state, err := proc.ThreadState(pid, tid)
		if err != nil || state != 'R' && state != 't' {
			continue
		}
		ran, err := proc.RunTime(pid, tid)
		if err != nil {
			continue
		}
		if first {
			began = ran
		}
		if state == 't' || ran-began < settled {
			onTheirWay[tid] = began
		}
	}
}
