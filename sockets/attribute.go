package sockets

import "github.com/huptime/huptime/internal/proc"

// attribute finds out which of the accepted connections are this generation's:
// those that one of its processes holds. Between the moment when the new
// generation was ready and the gate both have accepted from the same queue.
//
// Of processes that can't be looked into nothing is known: then everything counts
// that no newer generation holds.
//
// A connection of which both ends are this generation's does not count: see inner.
func (d *drain) attribute() {
	accepted := make(map[uint64]struct{})
	for _, c := range d.conns {
		if c.Inode != 0 { // 0: in the accept queue, or closed by the service
			accepted[uint64(c.Inode)] = struct{}{}
		}
	}
	for _, inode := range d.t.dialed(accepted) {
		delete(accepted, inode)
	}
	d.own, d.selves = make(map[uint32]struct{}), nil
	if len(accepted) == 0 {
		d.between = nil
		return
	}
	held, opaque := proc.Holders(d.t.pids(), accepted)
	for inode := range held {
		d.own[uint32(inode)] = struct{}{}
	}
	d.selves = d.inner()
	for inode := range d.selves {
		delete(d.own, inode)
		delete(accepted, uint64(inode))
	}
	if len(opaque) == 0 {
		for inode := range held {
			delete(accepted, inode)
		}
		if len(accepted) > 0 {
			d.inTransit(accepted)
		}
		return
	}
	theirs, _ := proc.Holders(d.newer(), accepted)
	d.t.mu.Lock()
	from := d.t.shrinking
	d.t.mu.Unlock()
	for _, c := range d.conns {
		if _, ok := accepted[uint64(c.Inode)]; !ok {
			continue
		}
		if _, ok := theirs[uint64(c.Inode)]; ok || from != nil && !from.cameBefore(c) {
			continue // with sockets of their own the later generations have all that has come since
		}
		d.own[c.Inode] = struct{}{}
	}
}
