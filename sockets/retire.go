package sockets

import "golang.org/x/sys/unix"

// Close gives back what the tracker holds. Call it when the generation is gone.
func (t *Tracker) Close() {
	if kept := t.TakeKept(); kept != nil {
		kept.Close()
	}
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.knocks.forget(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, fd := range t.stage.fetched {
		unix.Close(fd)
	}
	clear(t.stage.fetched)
	if t.stage.source != nil {
		t.stage.source.close()
	}
	for _, b := range t.bound {
		b.close()
	}
	clear(t.bound)
	for _, r := range t.returning {
		r.close()
	}
	clear(t.returning)
	t.prepared.close()
	if t.gate != nil {
		t.gate.close()
	}
}

// gone tells whether the generation is over.
func (t *Tracker) gone() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}
