package sockets

import (
	"context"
	"time"
)

// How long a generation may take to begin to wait on its sockets before it
// counts as ready all the same. Not every way to wait can be seen: io_uring can't, nor can
// 32-bit code, nor anything of a process that may not be looked into.
const (
	// settleListening follows the last listen.
	settleListening = 250 * time.Millisecond
	// settleFirst follows the last listen of generation 1, whose number of sockets nobody knows: a restart that began
	// between two of them would find the new generation and the old one after the same address.
	settleFirst = 100 * time.Millisecond
	// settleUnclaimed is for one that has not claimed all preserved sockets: it
	// may have dropped an address, or may be about to bind it.
	settleUnclaimed = 2 * time.Second
	// settleSocketless is for a service that listened on nothing before either.
	settleSocketless = time.Second
)

// readiness is what is known of a starting generation.
type readiness struct {
	preserved   int           // sockets that it may claim
	claimed     int           // those that it has claimed and listened on
	listening   int           // all sockets that it listens on
	unseen      bool          // it has listened on some that may not be looked at
	waiting     int           // those of them that it is known to wait on
	first       bool          // generation 1
	copies      int           // how many processes must have listened; 0 where there is one copy
	listeners   int           // how many have
	sinceStart  time.Duration // since the launch
	sinceListen time.Duration // since the last listen
}

// ready decides. Until it says so the old generation accepts.
func (r readiness) ready() bool {
	switch {
	case r.listening == 0 && r.unseen:
		return r.sinceListen >= settleUnclaimed
	case r.listening == 0:
		return !r.first && r.preserved == 0 && r.sinceStart >= settleSocketless
	case r.listeners < r.copies:
		return false
	case r.claimed < r.preserved:
		return r.sinceListen >= settleUnclaimed
	}
	if r.first && r.sinceListen < settleFirst {
		return false
	}
	return r.waiting == r.listening || r.sinceListen >= settleListening
}

// AwaitReady returns nil when the generation is ready, and ctx's error when ctx ends before.
func (t *Tracker) AwaitReady(ctx context.Context) error {
	const (
		shortest = 2 * time.Millisecond
		longest  = 25 * time.Millisecond
	)
	pause := shortest
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		r := t.readiness()
		if r.ready() {
			t.mu.Lock()
			t.starting = false
			t.mu.Unlock()
			return nil
		}
		if r.listening == 0 && r.preserved > 0 {
			pause = longest // only a listen can change it, and that one is heard of
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.changed:
			pause = shortest
		case <-timer.C:
			pause = min(2*pause, longest)
		}
	}
}

func (t *Tracker) readiness() readiness {
	r := readiness{first: t.generation == 1}
	var claimed, all []*Socket
	if t.preserved != nil {
		all = t.preserved.Sockets()
		claimed = t.preserved.Claimed()
	}
	r.preserved = len(all)

	t.mu.Lock()
	r.sinceStart = time.Since(t.started)
	r.sinceListen = time.Since(t.listened)
	r.unseen = t.unseen
	for _, s := range claimed {
		if _, ok := t.listening[s.Inode]; ok {
			r.claimed++
		}
	}
	r.listening = len(t.listening)
	if t.sharing != nil {
		r.copies, r.listeners = t.sharing.copies, len(t.listeners)
	}
	unseen := make(map[uint64]struct{})
	for inode := range t.listening {
		if _, ok := t.accepted[inode]; ok {
			r.waiting++
		} else {
			unseen[inode] = struct{}{}
		}
	}
	t.mu.Unlock()

	// Looking costs a walk through /proc: only when it can decide.
	if len(unseen) > 0 && r.claimed == r.preserved {
		r.waiting += len(waitedOn(t.pids(), unseen))
	}
	return r
}
