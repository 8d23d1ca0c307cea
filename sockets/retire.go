package sockets

// Close gives back what the tracker holds. Call it when the generation is gone.
func (t *Tracker) Close() {
	if kept := t.TakeKept(); kept != nil {
		kept.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.bound {
		b.close()
	}
	clear(t.bound)
	t.over = true
	t.prepared.close()
	if t.gate != nil {
		t.gate.close()
	}
}
