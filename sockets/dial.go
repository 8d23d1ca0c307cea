package sockets

import (
	"slices"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
	"huptime/notify"
)

// Some programs make connections from the port on which they listen (peers that meet behind address translation), and
// some of these before they listen. Their first bind must not get the listening socket: it could not connect (EISCONN).
// What a bind is for does not show, but the old generation has told: where it has bound sockets to the address of a
// listening one on which it never listened, the new one gets the listening socket not at its bind but at its listen.
// Until then its own sockets share the port with the preserved one (SO_REUSEPORT), as the old one's shared it among
// themselves.

const (
	maxDials        = 64   // addresses
	maxDialsAddress = 4096 // sockets that are remembered of each
)

// dials are the TCP sockets that a generation has bound and not listened on, by their address.
type dials struct {
	unheard   map[Address][]uint64
	postponed map[uint64]Address // sockets that are to be replaced at their listen
}

// noteDial notes what is about to be bound, or was just planted.
func (t *Tracker) noteDial(r *notify.Request, a Address) {
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
		t.dials.unheard, t.dials.postponed = make(map[Address][]uint64), make(map[uint64]Address)
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
	delete(t.dials.postponed, inode)
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
	if !s.Key.isTCP() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.dials.unheard[s.Key.Address], func(inode uint64) bool { return inode != s.Inode })
}

// postponed lets a bind run on the caller's own socket where it is not to get the preserved one before its listen.
func (t *Tracker) postponed(b *binding) bool {
	if b.own < 0 || !b.key.isTCP() || t.sharing != nil {
		return false
	}
	inode, ok, err := proc.DescriptorSocket(b.r.TID, b.number)
	if err != nil || !ok || !t.preserved.lend(b.key, b.own) {
		return false
	}
	t.noteDial(b.r, b.address)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dials.postponed == nil || len(t.dials.postponed) >= maxDials {
		return false
	}
	t.dials.postponed[inode] = b.address
	return true
}

// lend makes a preserved socket share its port with one that is about to be bound, if it is of an address that is
// dialed from.
func (p *Preserved) lend(k Key, own int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.first(k, func(s *Socket) bool { return s.dialed && !s.claimed })
	if s == nil {
		return false
	}
	shares, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	if err != nil {
		return false
	}
	if shares == 0 {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return false
		}
		s.lent = true
	}
	return unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) == nil
}

// takeBack makes the port the socket's alone again.
func (s *Socket) takeBack() {
	if s.lent && s.fd >= 0 {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
	}
	s.lent = false
}

// plantLate answers a listen on a socket whose bind was let run: it gets the preserved one, on which the listen then
// runs. It returns the inode of what is there.
func (t *Tracker) plantLate(r *notify.Request, inode uint64) uint64 {
	t.mu.Lock()
	address, ok := t.dials.postponed[inode]
	t.mu.Unlock()
	defer t.heard(inode)
	if !ok {
		return inode
	}
	key, nonblock, own, err := t.wanted(r)
	if err != nil {
		t.cannot(r, err)
		return inode
	}
	b := &binding{t: t, r: r, number: r.FD(), address: address, key: key.at(address), nonblock: nonblock, own: own}
	defer b.close()
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil || !r.Valid() {
		return inode
	}
	b.cloexec = info.CloseOnExec()
	s, err := t.preserved.claim(b.key, t.holds, func(s *Socket) error {
		s.takeBack()
		return b.plant(s)
	})
	if err != nil {
		t.cannot(r, err)
	}
	if err != nil || s == nil {
		return inode
	}
	t.planted(b, s)
	return s.Inode
}
