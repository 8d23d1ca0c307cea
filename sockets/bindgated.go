package sockets

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// A generation that is gated may bind its addresses once more: varnish's manager does as soon as its worker has
// ended, and a master whose workers bind for themselves does when one of them dies. The kernel would say EADDRINUSE,
// on which programs that had the port a moment ago wait and try again, or end with an error; or, with SO_REUSEPORT,
// it would give them a part of the successor's clients. Such a bind gets what the generation has at all other places
// by now: the placeholder. So does a listen on a socket that was bound to the address before (see postpones).

// standsAt tells whether a gated socket may have this address. It is cheap.
func (g *gate) standsAt(a sockaddr.Address) bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sockets {
		k := s.Key
		if k.Address == a || k.Address.Family == a.Family && k.Place.Name != "" && filepath.Base(a.Name) == k.Place.Name {
			return true
		}
	}
	return false
}

// placeholdersAt lists the placeholders that stand for sockets of a key. seen says that the key is a whole one, and no partial one.
func (g *gate) placeholdersAt(k sockaddr.Key, seen bool) (list []*placeholder) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for inode, s := range g.sockets {
		if s.Key == k || !seen && k.MatchesPartly(s.Key) {
			list = append(list, g.placeholders[inode])
		}
	}
	slices.SortFunc(list, func(a, b *placeholder) int { return int(int64(a.inode) - int64(b.inode)) })
	return list
}

// bindGated plants a placeholder for a bind to an address that the generation is gated on.
func (t *Tracker) bindGated(b *binding) (planted bool) {
	t.giving.Lock() // or the gate might be opened meanwhile
	defer t.giving.Unlock()
	t.mu.Lock()
	g := t.gate
	t.mu.Unlock()
	if g == nil {
		return false
	}
	d := t.freePlaceholder(g.placeholdersAt(b.key, b.own >= 0))
	if d == nil {
		return false
	}
	err := b.permitted(g.socket(d.stands))
	if errors.Is(err, errForbidden) {
		return false // the kernel says so itself
	}
	aliases := b.aliases()
	if err == nil {
		err = b.r.Plant(d.fd, b.number, b.cloexec)
	}
	if err == nil {
		err = aliases.follow(d.fd)
	}
	if err != nil {
		t.cannot(b.r, err)
		return false
	}
	t.log.Debug("a gated generation binds its address anew: it gets a placeholder", slog.Int("generation", t.generation),
		slog.String("call", b.r.Call.String()), slog.Int("thread", b.r.TID), slog.Int("descriptor", b.number))
	return true
}

// freePlaceholder picks the placeholder of a socket that no process of the generation has any more, as far as can be seen: on
// the way back each of a SO_REUSEPORT group's sockets is to have somebody who accepts. There is nothing to choose of
// one.
func (t *Tracker) freePlaceholder(list []*placeholder) *placeholder {
	if len(list) < 2 {
		if len(list) == 0 {
			return nil
		}
		return list[0]
	}
	inodes := make(map[uint64]struct{})
	for _, d := range list {
		inodes[d.inode], inodes[d.stands] = struct{}{}, struct{}{}
	}
	holders, _ := proc.Holders(t.pids(), inodes)
	for _, d := range list {
		if len(holders[d.inode])+len(holders[d.stands]) == 0 {
			return d
		}
	}
	return list[0]
}

// listenBoundGated is bindGated at the listen of an internet socket that was bound when the gate was set.
func (t *Tracker) listenBoundGated(g *gate, r *notify.Request) (planted bool) {
	b, ok := t.bindingOf(r, sockaddr.Key{})
	if !ok {
		return false
	}
	defer b.close()
	key, err := sockaddr.Describe(b.own, r.TID)
	if err != nil || key.Address.Family == unix.AF_UNIX || key.IsDatagram() {
		return false
	}
	name, err := unix.Getsockname(b.own)
	if err != nil {
		return false
	}
	address, ok := sockaddr.Of(name)
	if !ok || address.Chosen() || !g.standsAt(address) || !r.Valid() {
		return false
	}
	b.key = key.At(address)
	return t.bindGated(b)
}
