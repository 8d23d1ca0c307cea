package sockets

import (
	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// Of a unix socket a version can't have one of its own beside the preserved one. Where the old version's is non-blocking,
// and the new one binds a blocking one, which it may make non-blocking before it listens, its bind is answered with
// success and nothing is done yet: its socket has no name until it listens, when it is seen what it wants, and the
// preserved one is planted. (getsockname(2) in between tells no name.)

// postponesPath tells whether the bind of a unix socket is to be answered so.
func (t *Tracker) postponesPath(b *binding) bool {
	s := t.preserved.unclaimed(b.key)
	if s == nil || b.key.IsDatagram() || b.nonblock || !s.NonBlock || s.late {
		return false
	}
	// Else the flag may be written at once; or the usual way says what is wrong.
	return s.owner != nil && s.owner.holds(s.Inode) && (s.file == nil || s.file.there()) && b.permitted(s) == nil
}

// named tells whether a key is of a unix socket, which has a name and no port.
func named(k sockaddr.Key) bool { return k.Address.Family == unix.AF_UNIX }

// nameMoves says that one socket has taken the place of another, at the name that this was bound to.
func (t *Tracker) nameMoves(from, to uint64) {
	t.mu.Lock()
	name, ok := t.bound[from]
	delete(t.bound, from)
	t.mu.Unlock()
	if ok {
		t.binds(to, name)
	}
}
