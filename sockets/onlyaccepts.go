package sockets

// enoughAccepts is in how many looks a program must have been inside accept, and in none waiting to be told, to be known as one that does nothing
// but accept.
const enoughAccepts = 3

// onlyAccepts tells whether the program was seen to do nothing but accept on the socket: none of its threads has come there by way of poll, select or
// epoll, so none needs a phantom to come back from there.
func (t *Tracker) onlyAccepts(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, polled := t.polled[inode]
	return !polled && t.inAccept[inode] >= enoughAccepts
}

// undecided lists those of the sockets of which it is not known yet whether the program does nothing but accept there.
func (t *Tracker) undecided(sockets []*Socket) map[uint64]struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make(map[uint64]struct{})
	for _, s := range sockets {
		_, polled := t.polled[s.Inode]
		if !polled && !s.NonBlock && t.inAccept[s.Inode] < enoughAccepts && s.fd >= 0 {
			list[s.Inode] = struct{}{}
		}
	}
	return list
}
