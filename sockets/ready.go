package sockets

import (
	"context"
	"log/slog"
	"time"
)

// A generation is ready when it is seen to wait for clients, see evidence.go: time alone is no evidence. These are for what can't be seen, and
// for what is yet to come of which nobody knows.
const (
	// settleListening follows the last listen, where it can't be seen who waits: io_uring, processes that may not be looked into.
	settleListening = 250 * time.Millisecond
	// settleFirst follows the moment in which generation 1, whose number of sockets nobody knows, waits on all that it has: a
	// restart that began between two of them would find the new generation and the old one after the same address.
	settleFirst = 100 * time.Millisecond
	// settleBusy is for one that goes on to listen meanwhile: its sessions do.
	settleBusy = time.Second
	// settleUnclaimed is for one that has not claimed all that it may, and need not.
	settleUnclaimed = 2 * time.Second
	// settleSocketless is for a service that listened on nothing before either.
	settleSocketless = time.Second
)

// Asks is what a generation must show before it counts as ready, beside what it always must.
type Asks struct {
	// AddressChange: it need not claim every address that its predecessor serves.
	AddressChange bool
	// Workers is how many processes must wait on a socket, if its predecessor had as many: 0 and 1 are the first, AllWorkers as
	// many as the predecessor has.
	Workers int
}

// AllWorkers asks for as many processes as the predecessor has.
const AllWorkers = -1

// readiness is what is known of a starting generation.
type readiness struct {
	unclaimed   []*Socket     // sockets that its predecessor serves and that it has not claimed
	partly      bool          // it has claimed some sockets of a SO_REUSEPORT group and not all
	claims      int           // sockets that it has claimed
	listening   int           // all sockets that count: those that it listens on, and those that it has claimed
	silent      []uint64      // those of them on which nobody was seen to wait, though whoever does could be seen
	unseen      bool          // it has listened on some that may not be looked at
	blind       error         // why some that may wait can't be seen
	doubtful    []uint64      // those on which it waited, and then did not accept
	few         []uint64      // those on which fewer processes wait than were asked for
	preserved   int           // sockets that it must claim
	first       bool          // generation 1
	copies      int           // how many processes must have listened; 0 where there is one copy
	listeners   int           // how many have
	change      bool          // see Asks.AddressChange
	sinceStart  time.Duration // since the launch
	sinceListen time.Duration // since the last listen
	passed      bool          // it was started with listening sockets, on which it does not listen itself
	waiting     int           // sockets that it is known to wait on
	sinceWait   time.Duration // since it was found to wait on a socket that it was not known to wait on
	sinceAll    time.Duration // since nothing was lacking for the first time
}

// lack is what a generation has not shown yet.
type lack uint8

const (
	lacksNothing lack = iota
	lacksListen       // it listens on nothing
	lacksAddress      // an address that its predecessor serves
	lacksCopies       // copies of the service that have not listened
	lacksWaiting      // somebody who waits on a socket
	lacksAccept       // that it accepts whom it waits for
	lacksWorkers      // more who do
	lacksRest         // a moment in which nothing new comes
)

// lacks decides. Until it says nothing the old generation accepts.
func (r readiness) lacks() lack {
	switch {
	case r.listening == 0 && r.unseen:
		if r.sinceListen < settleUnclaimed {
			return lacksListen
		}
		return lacksNothing
	case r.listening == 0:
		if r.first || r.preserved > 0 || r.sinceStart < settleSocketless {
			return lacksListen
		}
		return lacksNothing
	case len(r.unclaimed) > 0 && !((r.change || r.first) && r.sinceListen >= settleUnclaimed):
		return lacksAddress
	case r.listeners < r.copies && !r.passed:
		return lacksCopies
	case len(r.silent) > 0 && !r.assumed():
		return lacksWaiting
	case len(r.doubtful) > 0:
		return lacksAccept
	case len(r.few) > 0 && !r.assumed():
		return lacksWorkers
	case r.partly && r.sinceListen < settleUnclaimed:
		return lacksRest
	case r.first && (r.sinceAll < settleFirst || r.sinceListen < settleFirst && r.sinceAll < settleBusy):
		return lacksRest
	}
	return lacksNothing
}

// assumed tells whether sockets on which nobody was seen to wait count as waited on all the same.
func (r readiness) assumed() bool {
	if r.passed {
		// It need not use all that it was started with; that it has them says nothing: it may be loading yet.
		return r.waiting > 0 && r.sinceWait >= settleUnclaimed || r.blind != nil && r.sinceStart >= settleUnclaimed
	}
	return r.blind != nil && r.sinceListen >= settleListening
}

// AwaitReady returns nil when the generation is ready, and ctx's error when ctx ends before.
func (t *Tracker) AwaitReady(ctx context.Context) error {
	const (
		shortest = 2 * time.Millisecond
		longer   = 25 * time.Millisecond // while it may be ready any moment
		longest  = 200 * time.Millisecond
		share    = 8 // a look at a thousand processes takes its time, and those need it
	)
	pause := shortest
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for look := 0; ; look++ {
		began := time.Now()
		r := t.readiness(look)
		missing := r.lacks()
		t.mu.Lock()
		t.shown = r
		t.mu.Unlock()
		if missing == lacksNothing {
			t.sayAssumed(r)
			t.nowReady()
			if t.preserved != nil {
				t.preserved.endConfinement()
			}
			return nil
		}
		switch {
		case t.predecessorUndecided():
			pause = shortest + shortest // it is about to be gated
		case missing == lacksListen && r.preserved > 0:
			pause = longer // only a listen can change it, and that one is heard of
		}
		timer.Reset(max(pause, share*time.Since(began)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.changed:
			pause = shortest
		case <-timer.C:
			if limit := longest; r.sinceListen < time.Second {
				limit = longer
				pause = min(2*pause, limit)
			} else {
				pause = min(2*pause, limit)
			}
		}
	}
}

// sayAssumed says once what was assumed of what can't be seen.
func (t *Tracker) sayAssumed(r readiness) {
	if len(r.silent)+len(r.few) == 0 || r.blind == nil {
		return
	}
	t.knocks.assumedOnce.Do(func() {
		t.log.Warn("it can't be seen whether a new version waits for clients: it counts as ready a moment after it listens; --ready tells for sure",
			slog.Int("generation", t.generation), slog.String("why", r.blind.Error()))
	})
}

// readiness looks at the generation for the n-th time.
func (t *Tracker) readiness(n int) readiness {
	r := readiness{first: t.generation == 1, change: t.asks.AddressChange}
	must := t.claims(&r)
	t.watchPredecessor()

	t.mu.Lock()
	r.unseen, r.passed = t.unseen, t.passed
	// A datagram socket that no predecessor had may be for questions of its own.
	streams := len(must) > 0
	for inode := range t.listening {
		if _, late := t.late[inode]; !late && !t.isDatagram(inode) {
			streams = true
		}
	}
	for inode := range t.listening {
		_, late := t.late[inode]
		if _, known := must[inode]; !late && !known && (!t.isDatagram(inode) || !streams) {
			must[inode] = nil
		}
	}
	r.listening = max(len(must), len(t.listening)-len(t.late))
	if t.sharing != nil {
		r.copies, r.listeners = t.sharing.copies, len(t.listeners)
	}
	t.mu.Unlock()

	if len(must) > 0 {
		t.lookForWaiters(&r, must, n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// Last: it may have listened while it was looked at.
	r.sinceStart, r.sinceListen, r.sinceWait = time.Since(t.started), time.Since(t.listened), time.Since(t.waited)
	if t.complete.IsZero() {
		r.sinceAll = settleFirst
		if r.lacks() == lacksNothing || r.lacks() == lacksRest {
			t.complete = time.Now()
		}
	}
	r.sinceAll = time.Since(t.complete)
	return r
}

// isDatagram tells whether a socket that is noted as listening may be a datagram socket. t.mu is held.
func (t *Tracker) isDatagram(inode uint64) bool {
	_, ok := t.datagrams[inode]
	return ok
}

// pass says that the generation starts with the standing sockets open (LISTEN_FDS): it need not bind them or listen on
// them. It is ready when it waits on them.
func (t *Tracker) pass() {
	if t.preserved == nil {
		return
	}
	t.preserved.mu.Lock()
	defer t.preserved.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.preserved.sockets {
		if s.standing {
			s.passed, t.passed = true, true
			t.number(s.Inode)
		}
	}
}

// AwaitServing returns nil once a thread has been seen to wait for clients on each socket that the generation was ready with, or nobody could be
// seen; and ctx's error when ctx ends before.
func (t *Tracker) AwaitServing(ctx context.Context) error {
	const interval = 10 * time.Millisecond
	left := make(map[uint64]struct{})
	for _, inode := range t.listeningInodes() {
		t.mu.Lock()
		_, late := t.late[inode]
		t.mu.Unlock()
		if !late && t.waitersOn(inode) > 0 {
			left[inode] = struct{}{}
		}
	}
	for {
		s := lookAt(t.pids(), left)
		for inode := range s.waiting {
			delete(left, inode)
		}
		if len(left) == 0 || s.blind != nil {
			return nil
		}
		if !pause(ctx, interval) {
			return ctx.Err()
		}
	}
}
