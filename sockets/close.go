package sockets

import "huptime/notify"

// close is a hint only (see the package's comment): it says that in a gated
// generation a connection may have ended. The call always runs.
func (t *Tracker) close() notify.Reply {
	t.mu.Lock()
	gated := t.gate != nil
	t.mu.Unlock()
	if gated {
		ping(t.closed)
	}
	return notify.Continue()
}
