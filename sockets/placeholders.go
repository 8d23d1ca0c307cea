package sockets

import "maps"

// placeholders are made before the first of the old generation's sockets is touched, all or none: one that is missing would be found missing when some
// sockets are gated and the others are not. So Collect makes those that a gate on what it has collected can need.

// placeholders are by inode of the socket that each stands for.
type placeholders map[uint64]*placeholder

func (d placeholders) close() {
	for _, one := range d {
		one.close()
	}
	clear(d)
}

func placeholderFor(s *Socket) (*placeholder, error) {
	d, err := newPlaceholder(s.Key, s.NonBlock)
	if err != nil {
		return nil, err
	}
	d.stands = s.Inode
	if s.Key.IsDatagram() {
		d.limitLike(s)
	}
	return d, nil
}

// placeholdersFor returns one for each socket: those of have, which it takes out of there, and new ones. On an error it has taken, and made, none.
func placeholdersFor(sockets []*Socket, have placeholders) (placeholders, error) {
	all, made := make(placeholders, len(sockets)), make(placeholders)
	for _, s := range sockets {
		if d := have[s.Inode]; d != nil {
			all[s.Inode] = d
			continue
		}
		if made[s.Inode] != nil {
			continue
		}
		d, err := placeholderFor(s)
		if err != nil {
			made.close()
			return nil, err
		}
		made[s.Inode] = d
	}
	for inode := range all {
		delete(have, inode)
	}
	maps.Copy(all, made)
	return all, nil
}

// takePrepared hands over what was prepared.
func (t *Tracker) takePrepared() placeholders {
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.prepared
	t.prepared = nil
	return have
}

// prepareGate makes the placeholders for a gate on these sockets, or none.
func (t *Tracker) prepareGate(sockets []*Socket) error {
	have := t.takePrepared()
	defer func() { have.close() }()
	all, err := placeholdersFor(sockets, have)
	if err != nil {
		return err
	}
	t.keepPrepared(all)
	return nil
}

// keepPrepared puts back what a gate has not needed yet. Once the generation is over nothing is needed.
func (t *Tracker) keepPrepared(left placeholders) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		left.close()
		if t.gate != nil {
			t.gate.close()
		}
		return
	}
	t.prepared = left
}

// takeReturning puts into have the placeholders of these sockets that processes have still from an earlier gate, in place of those that were
// prepared.
func (t *Tracker) takeReturning(sockets []*Socket, have placeholders) {
	for _, s := range sockets {
		d := t.gatedAgain(s.Inode)
		if d == nil {
			continue
		}
		if other := have[s.Inode]; other != nil {
			other.close()
		}
		d.stands = s.Inode
		if s.Key.IsDatagram() {
			d.limitLike(s)
		}
		have[s.Inode] = d
	}
}
