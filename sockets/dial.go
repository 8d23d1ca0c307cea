package sockets

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// Some programs make connections from the port on which they listen (peers that meet behind address translation), and
// some of these before they listen. Their first bind must not get the listening socket: it could not connect (EISCONN).
// What a bind is for does not show, but the old generation has told: where it has bound sockets to the address of a
// listening one on which it never listened, the new one's binds there are postponed (stageflags.go): it gets the
// listening socket not at its bind but at its listen. Until then its own sockets share the port with the preserved one,
// as the old one's shared it among themselves.

const (
	maxDials        = 64   // addresses
	maxDialsAddress = 4096 // sockets that are remembered of each
)

// dials are the TCP sockets that a generation has bound and not listened on, by their address.
type dials struct {
	unheard map[sockaddr.Address][]uint64
}

// noteDial notes what is about to be bound, or was just planted.
func (t *Tracker) noteDial(r *notify.Request, a sockaddr.Address) {
	if a.Port() == 0 {
		return
	}
	protocol, err := proc.SocketProtocol(r.TID, r.FD())
	if err != nil || kinds[protocol].kind != unix.SOCK_STREAM {
		return
	}
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok || !r.Valid() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dials.unheard == nil {
		t.dials.unheard = make(map[sockaddr.Address][]uint64)
	}
	list := t.dials.unheard[a]
	if _, listens := t.listening[inode]; listens || slices.Contains(list, inode) {
		return
	}
	if len(list) >= maxDialsAddress {
		list = list[1:] // the oldest
	}
	if list == nil && len(t.dials.unheard) >= maxDials {
		return
	}
	t.dials.unheard[a] = append(list, inode)
}

// heard notes that a socket was listened on.
func (t *Tracker) heard(inode uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for a, list := range t.dials.unheard {
		if i := slices.Index(list, inode); i >= 0 {
			if list = slices.Delete(list, i, i+1); len(list) == 0 {
				delete(t.dials.unheard, a)
			} else {
				t.dials.unheard[a] = list
			}
			return
		}
	}
}

// dialed tells which of these sockets, by inode, the generation has bound for a connection of its own making. A drain
// does not wait for these.
func (t *Tracker) dialed(inodes map[uint64]struct{}) (list []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, unheard := range t.dials.unheard {
		for _, inode := range unheard {
			if _, ok := inodes[inode]; ok {
				list = append(list, inode)
			}
		}
	}
	return list
}

// dialsFrom tells whether the generation has bound others to the address of a listening socket, and never listened on
// these.
func (t *Tracker) dialsFrom(s *Socket) bool {
	if !s.Key.IsTCP() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.dials.unheard[s.Key.Address], func(inode uint64) bool { return inode != s.Inode })
}
