package sockets

// Close gives back what the tracker holds. Call it when the generation is gone.
func (t *Tracker) Close() {
	if kept := t.TakeKept(); kept != nil {
		kept.Close()
	}
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.bound {
		b.close()
	}
	clear(t.bound)
	for _, r := range t.returning {
		r.close()
	}
	clear(t.returning)
	if t.gate != nil {
		t.gate.close()
	}
}
