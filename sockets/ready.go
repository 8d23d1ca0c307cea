package sockets

import (
	"context"
	"time"

	"huptime/internal/proc"
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
	passed      bool          // it was started with listening sockets, on which it does not listen itself
	opaque      bool          // of such a one: some of its processes can't be looked into
	sinceWait   time.Duration // since it was found to wait on a socket that it was not known to wait on
}

// ready decides. Until it says so the old generation accepts.
func (r readiness) ready() bool {
	switch {
	case r.listening == 0 && r.unseen:
		return r.sinceListen >= settleUnclaimed
	case r.listening == 0:
		return !r.first && r.preserved == 0 && r.sinceStart >= settleSocketless
	case r.passed && r.waiting < r.listening:
		// That it has the sockets says nothing: it may be loading yet. Nor does it have to use all of them.
		return r.waiting > 0 && r.sinceWait >= settleUnclaimed || r.opaque && r.sinceStart >= settleUnclaimed
	case r.listeners < r.copies && !r.passed:
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
			if t.preserved != nil {
				t.preserved.endConfinement()
			}
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
		all = t.preserved.WithoutSurplus()
		r.preserved = t.preserved.unseen // the new one is to listen there, or it is not what it was
		claimed = t.preserved.Claimed()
	}
	for _, s := range all {
		if !s.standing || s.expected || s.passed {
			r.preserved++
		}
	}

	t.mu.Lock()
	r.sinceStart = time.Since(t.started)
	r.sinceListen = time.Since(t.listened)
	r.unseen, r.passed = t.unseen, t.passed
	for _, s := range claimed {
		if s.standing && !s.expected && !s.passed {
			continue
		}
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
	if len(unseen) > 0 && (r.claimed == r.preserved || r.passed) {
		pids := t.pids()
		found := waitedOn(pids, unseen)
		r.waiting += len(found)
		t.mu.Lock()
		for inode := range found {
			t.nowWaited(inode)
		}
		t.mu.Unlock()
		if r.passed && len(found) == 0 {
			_, opaque := proc.Holders(pids, unseen)
			r.opaque = len(opaque) > 0
		}
	}
	t.mu.Lock()
	r.sinceWait = time.Since(t.waited)
	t.mu.Unlock()
	return r
}

// nowWaited notes that some thread waits on the socket. t.mu is held.
func (t *Tracker) nowWaited(inode uint64) {
	if _, known := t.accepted[inode]; !known {
		t.accepted[inode] = struct{}{}
		t.waited = time.Now()
	}
}

// Pass says that the generation starts with the standing sockets open (LISTEN_FDS): it need not bind them or listen on them. It is
// ready when it waits on them. Call it before the generation's calls are served.
func (t *Tracker) Pass() {
	if t.preserved == nil {
		return
	}
	t.preserved.mu.Lock()
	defer t.preserved.mu.Unlock()
	for _, s := range t.preserved.sockets {
		if s.standing {
			s.passed, t.passed = true, true
			t.listening[s.Inode] = len(t.listening)
		}
	}
}
