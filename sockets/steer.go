package sockets

import (
	"huptime/internal/proc"
	"huptime/notify"
)

// steer notes that the service attaches a program of its own to the SO_REUSEPORT group of a socket. The call runs.
func (t *Tracker) steer(r *notify.Request) notify.Reply {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok || !r.Valid() {
		return notify.Continue()
	}
	t.noteSteered(inode)
	return notify.Continue()
}

func (t *Tracker) noteSteered(inode uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.steered) < maxSteered {
		t.steered[inode] = struct{}{}
	}
}

// maxSteered bounds what is remembered; a service has one program for each of its groups, or one for each of their sockets.
const maxSteered = 4096

// isSteered tells whether the service has steered the group of a socket by it.
func (t *Tracker) isSteered(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.steered[inode]
	return ok
}
