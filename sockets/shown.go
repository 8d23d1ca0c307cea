package sockets

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// claims fills in what the generation has claimed of the preserved sockets, and returns by inode those that it must be seen to wait on.
func (t *Tracker) claims(r *readiness) map[uint64]*Socket {
	must := make(map[uint64]*Socket)
	if t.preserved == nil {
		return must
	}
	claimed := make(map[sockaddr.Key]bool)
	for _, inode := range t.listeningInodes() {
		if s := t.standsFor(inode); s != nil { // a socket of its own, see Stage
			must[inode] = s
			claimed[s.Key] = true
			r.claims++
		}
	}
	p := t.preserved
	p.mu.Lock()
	defer p.mu.Unlock()
	r.preserved = p.unseen // it is to listen there, or it is not what its predecessor was
	for _, s := range p.sockets {
		if s.claimed || s.passed {
			claimed[s.Key] = true
			r.claims++
			if !s.standing || s.expected || s.passed {
				must[s.Inode] = s
			}
		}
	}
	for _, s := range p.sockets {
		if s.chosen { // the kernel has chosen its port, and will choose another
			continue
		}
		if s.surplus || s.standing && !s.expected && !s.passed || s.fd < 0 && !s.claimed { // the last was given up for another that overlaps it
			continue
		}
		r.preserved++
		switch {
		case s.claimed || s.passed || s.dropped:
		case claimed[s.Key] && s.staged != nil:
			// Of its own it may have as many as it likes.
		case claimed[s.Key]:
			r.partly = true
		default:
			r.unclaimed = append(r.unclaimed, s)
		}
	}
	return must
}

// lookForWaiters looks who waits on the sockets that matter, and notes on which of them nobody does.
func (t *Tracker) lookForWaiters(r *readiness, must map[uint64]*Socket, n int) {
	wanted := make(map[uint64]struct{})
	silent := func() (list []uint64) {
		for inode := range must {
			if t.waitersOn(inode) < t.workersWanted(inode, must[inode]) {
				list = append(list, inode)
			}
		}
		return list
	}
	for _, inode := range silent() {
		wanted[inode] = struct{}{}
	}
	pids := t.pids()
	if len(pids) == 0 && t.resolve != nil {
		t.resolve()
		pids = t.pids()
	}
	if len(pids) == 0 { // it is about to begin, or has just ended
		r.silent = slices.Sorted(maps.Keys(wanted))
		return
	}
	if len(wanted) > 0 {
		s := lookAt(pids, wanted)
		if t.resolve != nil && len(s.held) < len(wanted) {
			// Daemons of two generations at once can't be told apart by their parents: who has it may not be known as this one's yet.
			t.resolve()
			pids = t.pids()
			s = lookAt(pids, wanted)
		}
		t.witness(s, wanted)
		r.blind = s.blind
		t.seeAccepting(pids, wanted)
		// Not as cheap, and of use where a thread is never seen to wait.
		const each = 4
		if n%each == each-1 && len(silent()) > 0 {
			if err := t.lookForAccepted(pids, wanted); err != nil {
				t.log.Debug("cannot look for accepted connections", "error", err.Error())
			}
		}
		for _, inode := range silent() {
			own := must[inode] == nil || must[inode].Inode != inode
			switch _, held := s.held[inode]; {
			case own && !held && s.blind == nil && !stillOpen(inode):
				t.forget(inode) // it was closed again, or its listen has failed
				delete(must, inode)
			case own: // in a message (SCM_RIGHTS), if nobody has it
			case must[inode] != nil && !held && s.blind == nil && must[inode].passed:
				delete(must, inode) // it has no use for it
			case must[inode] != nil && !held && s.blind == nil:
				r.unclaimed = append(r.unclaimed, must[inode]) // it was bound to try, and closed again
			}
		}
	}
	predecessor := t.predecessor()
	if predecessor != nil && (len(wanted) > 0 || len(r.unclaimed) > 0 || t.asks.Workers != 0) {
		predecessor.lookAfterOld(must, r)
	}
	for _, inode := range slices.Sorted(maps.Keys(must)) {
		switch n := t.waitersOn(inode); {
		case n == 0 && must[inode] != nil && predecessor != nil && predecessor.neverWaits(must[inode].Inode):
			// Whatever it does with the socket, its predecessor did as much.
		case n == 0:
			r.silent = append(r.silent, inode)
		case t.isDoubtful(inode):
			r.doubtful = append(r.doubtful, inode)
		case n < t.workersWanted(inode, must[inode]):
			r.few = append(r.few, inode)
			r.waiting++
		default:
			r.waiting++
		}
	}
}

func (t *Tracker) isDoubtful(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doubtful(inode)
}

// workersWanted is how many processes must wait on a socket; s is the preserved one that it is, or nil.
func (t *Tracker) workersWanted(inode uint64, s *Socket) int {
	wanted := 1
	if t.sharing != nil && !t.sharing.own && !t.isUnix(inode, s) {
		wanted = t.sharing.copies
	}
	predecessor := t.predecessor()
	if s == nil || predecessor == nil || t.asks.Workers == 0 {
		return wanted
	}
	had := predecessor.livingWaiters(s.Inode)
	if t.asks.Workers == AllWorkers {
		return max(wanted, had)
	}
	return max(wanted, min(had, t.asks.Workers))
}

// isUnix tells whether a socket is a unix socket, which copies of a service do not share.
func (t *Tracker) isUnix(inode uint64, s *Socket) bool {
	if s != nil {
		return s.Key.Address.Family == unix.AF_UNIX
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.bound[inode]
	return ok && b.address.Family == unix.AF_UNIX
}

// livingWaiters is how many processes that live yet were seen to wait on the socket.
func (t *Tracker) livingWaiters(inode uint64) int {
	t.mu.Lock()
	pids := slices.Collect(maps.Keys(t.waitedBy[inode]))
	t.mu.Unlock()
	n := 0
	for _, pid := range pids {
		if st, err := proc.ReadStat(pid); err == nil && st.State != 'Z' {
			n++
		}
	}
	return n
}

// predecessor is the tracker of the generation whose sockets this one may claim; nil where there is none.
func (t *Tracker) predecessor() *Tracker {
	if t.preserved == nil {
		return nil
	}
	t.preserved.mu.Lock()
	defer t.preserved.mu.Unlock()
	return t.preserved.old
}

// manyLooks is how often it is looked whether a generation does nothing but accept, at the most.
const manyLooks = 12

// watchPredecessor looks whether the generation that serves does nothing but accept; see onlyAccepts.
func (t *Tracker) watchPredecessor() {
	if !t.predecessorUndecided() {
		return
	}
	t.watched++
	predecessor := t.predecessor()
	unsure := predecessor.undecided(t.preserved.Sockets())
	s := lookAt(predecessor.pids(), unsure)
	if len(t.preserved.Claimed()) > 0 {
		return // while two share a queue, one that was told of a client may not find it, and wait inside accept
	}
	predecessor.witness(s, unsure)
	predecessor.mu.Lock()
	defer predecessor.mu.Unlock()
	for inode := range s.accept {
		predecessor.inAccept[inode]++
	}
}

// predecessorUndecided tells whether that is not known yet, and may still be seen. AwaitReady's goroutine calls it.
func (t *Tracker) predecessorUndecided() bool {
	predecessor := t.predecessor()
	// Where accepts are notified a thread that is on its way through one looks as if it waited there.
	return predecessor != nil && t.level == notify.LevelListeners && t.watched < manyLooks && len(predecessor.undecided(t.preserved.Sockets())) > 0
}

// lookAfterOld looks, while its successor starts, at a generation that serves: which sockets it waits on at all, and which it has closed
// meanwhile, so that nobody need claim them.
func (t *Tracker) lookAfterOld(must map[uint64]*Socket, r *readiness) {
	wanted := make(map[uint64]struct{})
	for _, s := range must {
		if s != nil && (t.waitersOn(s.Inode) == 0 || t.asks.Workers != 0) {
			wanted[s.Inode] = struct{}{}
		}
	}
	for _, s := range r.unclaimed {
		wanted[s.Inode] = struct{}{}
	}
	if len(wanted) == 0 {
		return
	}
	pids := t.pids()
	if len(pids) == 0 {
		return // it ends right now
	}
	s := lookAt(pids, wanted)
	t.witness(s, wanted)
	if s.blind != nil {
		return
	}
	r.unclaimed = slices.DeleteFunc(r.unclaimed, func(u *Socket) bool {
		if _, held := s.held[u.Inode]; held || u.standing {
			return false
		}
		u.misses++
		u.dropped = u.misses > 2 // it may be inside of a message for a moment
		return u.dropped
	})
}

// watchWaiting looks at the generation, which serves, until it is known of each of the sockets whether it waits on it. The time that this takes is
// that after which it counts as never waiting.
func (t *Tracker) watchWaiting(from *Preserved) {
	const each = enoughLookTime / enoughLooks
	limit := time.Now().Add(2 * enoughLookTime)
	for ; time.Now().Before(limit); time.Sleep(each) {
		unknown := make(map[uint64]struct{})
		for _, s := range from.Sockets() {
			if t.waitersOn(s.Inode) == 0 && !t.neverWaits(s.Inode) && !s.standing {
				unknown[s.Inode] = struct{}{}
			}
		}
		pids := t.pids()
		if len(unknown) == 0 || len(pids) == 0 {
			return
		}
		s := lookAt(pids, unknown)
		t.witness(s, unknown)
		if err := t.lookForAccepted(pids, unknown); err != nil || s.blind != nil {
			return
		}
	}
}

// seeAccepting notes as waited on what processes accept at that may not be looked into: at these numbers others, whose children they are, have
// the sockets.
func (t *Tracker) seeAccepting(pids []int, wanted map[uint64]struct{}) {
	t.mu.Lock()
	some := len(t.acceptsAt) > 0
	t.mu.Unlock()
	if !some {
		return
	}
	holders, _ := proc.Holders(pids, wanted)
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode, list := range holders {
		for _, h := range list {
			if _, ok := t.acceptsAt[h.FD]; ok {
				t.nowWaited(inode, h.PID)
				t.firm[inode] = struct{}{}
			}
		}
	}
}
