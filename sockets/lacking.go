package sockets

import (
	"fmt"
	"slices"
	"strings"

	"github.com/huptime/huptime/sockets/sockdiag"
)

// Lacking says in words what the generation has not shown that makes it ready, as of the last look. undropped tells that it has claimed some of its
// predecessor's addresses and waits on them, and that others are all that is missing.
func (t *Tracker) Lacking() (words string, undropped bool) {
	t.mu.Lock()
	r, proving := t.shown, t.proving
	t.mu.Unlock()
	if proving != 0 {
		return errNotAccepting.Error() + ": " + t.namesOf([]uint64{proving}), false
	}
	switch r.lacks() {
	case lacksListen:
		if r.claims > 0 || r.listening > 0 {
			return "it has bound an address and listens on none", false
		}
		return "it listens on no address", false
	case lacksAddress:
		words := t.unclaimedWords(r.unclaimed) + ", which its predecessor serves (--allow-address-change if that is meant)"
		return words, r.claims > 0 && len(r.silent) == 0
	case lacksCopies:
		return fmt.Sprintf("%d of %d copies listen", r.listeners, r.copies), false
	case lacksWaiting:
		return "nobody waits for clients on " + t.namesOf(r.silent), false
	case lacksAccept:
		return errNotAccepting.Error() + ": " + t.namesOf(r.doubtful), false
	case lacksWorkers:
		var counts []string
		for _, inode := range r.few {
			counts = append(counts, fmt.Sprintf("%d processes wait for clients on %s", t.waitersOn(inode), t.namesOf([]uint64{inode})))
		}
		return "only " + strings.Join(counts, ", "), false
	case lacksRest:
		return "it has only just begun to wait for clients", false
	}
	return "", false
}

// unclaimedWords says what the generation has not bound, and what it has bound and closed again: it may be about to end.
func (t *Tracker) unclaimedWords(list []*Socket) string {
	var never, closed []*Socket
	t.preserved.mu.Lock()
	for _, s := range list {
		if s.claimed {
			closed = append(closed, s)
		} else {
			never = append(never, s)
		}
	}
	t.preserved.mu.Unlock()
	switch {
	case len(closed) == 0:
		return "it has not bound " + shownSockets(never)
	case len(never) == 0:
		return "it has closed " + shownSockets(closed)
	}
	return "it has not bound " + shownSockets(never) + ", and has closed " + shownSockets(closed)
}

func shownSockets(list []*Socket) string {
	var names []string
	for _, s := range list {
		names = append(names, s.String())
	}
	return strings.Join(slices.Compact(names), ", ")
}

// namesOf says for people what sockets of the generation are bound to.
func (t *Tracker) namesOf(inodes []uint64) string {
	set := make(map[uint64]struct{})
	var names []string
	for _, inode := range inodes {
		if s := t.preserved.withInode(inode); s != nil {
			names = append(names, s.String())
		} else {
			set[inode] = struct{}{}
		}
	}
	if diag, err := sockdiag.Open(); err == nil && len(set) > 0 {
		names = append(names, diag.AddressesOf(set)...)
		diag.Close()
	}
	if len(names) == 0 {
		return "what it listens on"
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// withInode finds a socket; nil where there is none.
func (p *Preserved) withInode(inode uint64) *Socket {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.sockets, func(s *Socket) bool { return s.Inode == inode }); i >= 0 {
		return p.sockets[i]
	}
	return nil
}
