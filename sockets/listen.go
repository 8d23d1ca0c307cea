package sockets

import (
	"errors"
	"io/fs"
	"math"
	"time"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
)

// listen notes the socket as a listening one and lets the call run: on a
// planted socket it sets the backlog. Whether it succeeds is seen at the next
// restart, when the socket is collected.
func (t *Tracker) listen(r *notify.Request) notify.Reply {
	if reply, ok := t.knocks.answered(t.generation, r); ok {
		return reply
	}
	t.mu.Lock()
	g, back := t.gate, len(t.returning) > 0
	t.mu.Unlock()
	if back {
		if reply, ok := t.giveBack(r, true); ok {
			return reply
		}
	}
	if g != nil && t.listenGated(g, r) {
		return notify.Return(0)
	}
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil {
		t.cannot(r, err)
		if errors.Is(err, fs.ErrPermission) {
			t.mu.Lock()
			t.unseen, t.listened = true, time.Now()
			t.mu.Unlock()
			ping(t.changed)
		}
		return notify.Continue()
	}
	if !ok || !r.Valid() {
		return notify.Continue()
	}
	if t.rejoin(r, inode) || t.decide(r, inode) {
		if inode, ok, err = proc.DescriptorSocket(r.TID, r.FD()); err != nil || !ok || !r.Valid() {
			return notify.Continue()
		}
	}
	t.heard(inode)
	t.noteFlag(r, inode)
	t.note(r, inode, true)
	ping(t.toKeep)
	return notify.Continue()
}

// listenGated swaps the descriptor for a placeholder where it is a gated socket: the service must not get hold of the queue again.
func (t *Tracker) listenGated(g *gate, r *notify.Request) bool {
	t.giving.Lock() // or the gate might be opened meanwhile
	d, _ := t.swap(g, r)
	if d == nil {
		d, _ = g.placeholderThere(r) // it listens already
	}
	t.giving.Unlock()
	return d != nil || t.listenBoundGated(g, r)
}

// note notes a listening socket; settles says that readiness waits for what may follow it.
func (t *Tracker) note(r *notify.Request, inode uint64, settles bool) {
	pid := 0
	if t.sharing != nil {
		pid, _ = proc.Tgid(r.TID)
	}
	planted := t.preserved.withInode(inode) != nil // late or not, that is no session's
	serves := !planted && t.servesAlready(inode)
	t.mu.Lock()
	if pid != 0 {
		t.listeners[pid] = struct{}{}
	}
	if t.number(inode) && (!t.starting && !planted || serves) {
		t.noteLate(inode)
	}
	if settles {
		t.listened = time.Now()
	}
	sweep := len(t.late) >= t.sweepLateAt
	if sweep {
		t.sweepLateAt = math.MaxInt // one at a time
	}
	t.mu.Unlock()
	if sweep {
		go t.sweepLate() // ends by itself: it looks once
	}
	ping(t.changed)
}

// number gives a listening socket its place in the order in which they came, and tells whether it had none. t.mu is held.
func (t *Tracker) number(inode uint64) (first bool) {
	if _, known := t.listening[inode]; known {
		return false
	}
	t.listening[inode] = t.noted
	t.noted++
	return true
}
