package sockets

import (
	"errors"
	"io/fs"
	"time"

	"huptime/internal/proc"
	"huptime/notify"
)

// listen notes the socket as a listening one and lets the call run: on a
// planted socket it sets the backlog. Whether it succeeds is seen at the next
// restart, when the socket is collected.
func (t *Tracker) listen(r *notify.Request) notify.Reply {
	if reply, ok := t.knocks.answered(t.generation, r); ok {
		return reply
	}
	t.mu.Lock()
	g := t.gate
	t.mu.Unlock()
	if g != nil {
		// By a remote call of the supervisor's, which gates the process so; or by the service,
		// which must not get hold of the queue again.
		if d, _ := t.swap(g, r); d != nil {
			t.exchanged(g, r)
			return notify.Return(0)
		}
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
	inode = t.plantLate(r, inode)
	t.note(r, inode, true)
	ping(t.toKeep)
	return notify.Continue()
}

// note notes a listening socket; settles says that readiness waits for what may follow it.
func (t *Tracker) note(r *notify.Request, inode uint64, settles bool) {
	pid := 0
	if t.sharing != nil {
		pid, _ = proc.Tgid(r.TID)
	}
	t.mu.Lock()
	if pid != 0 {
		t.listeners[pid] = struct{}{}
	}
	if _, known := t.listening[inode]; !known {
		t.listening[inode] = t.noted
		t.noted++
	}
	if settles {
		t.listened = time.Now()
	}
	t.mu.Unlock()
	ping(t.changed)
}
