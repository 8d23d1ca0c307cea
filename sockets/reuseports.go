package sockets

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// reuseports are the groups of all generations.
type reuseports struct {
	mu   sync.Mutex
	list map[sockaddr.Key]*reuseport

	noting sync.Mutex // may be locked while a group is
	homes  map[uint64]*reuseport
}

// of returns the group of a key, which it makes if need be.
func (r *reuseports) of(k sockaddr.Key) *reuseport {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.list[k]
	if g == nil {
		if r.list == nil {
			r.list = make(map[sockaddr.Key]*reuseport)
		}
		g = &reuseport{key: k, all: r, of: make(map[uint64]*Tracker), helper: -1}
		r.list[k] = g
	}
	return g
}

func (r *reuseports) all() []*reuseport {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*reuseport, 0, len(r.list))
	for _, g := range r.list {
		list = append(list, g)
	}
	return list
}

// home is the group that a socket is of; nil for those that no generation of huptime's has bound.
func (r *reuseports) home(inode uint64) *reuseport {
	r.noting.Lock()
	defer r.noting.Unlock()
	return r.homes[inode]
}

func (r *reuseports) settleIn(inode uint64, g *reuseport) {
	r.noting.Lock()
	defer r.noting.Unlock()
	if r.homes == nil {
		r.homes = make(map[uint64]*reuseport)
	}
	if g == nil {
		delete(r.homes, inode)
	} else {
		r.homes[inode] = g
	}
}

// forget takes a generation that is over out of all groups. What it has left in the kernel is in its
// preserved sockets' hands.
func (r *reuseports) forget(t *Tracker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, g := range r.list {
		g.mu.Lock()
		if g.has(t) && g.look() == nil {
			g.forgetGone() // what is left is a stranger's for no moment
		}
		if len(g.of) == 0 && g.helper < 0 {
			delete(r.list, k)
		}
		g.mu.Unlock()
	}
}

// outsiders tells whether a socket that is none of huptime's generations' has an address that overlaps the key.
func (r *reuseports) outsiders(k sockaddr.Key, ours func(inode uint64) bool) (bool, error) {
	for _, family := range []uint16{unix.AF_INET, unix.AF_INET6} {
		at := k
		at.Address.Family = family
		list, err := listeners(at)
		if err != nil {
			return false, err
		}
		for _, s := range list {
			// V6ONLY can't be seen; that of the caller's own stands for both, so a socket that leaves IPv4 to
			// others does not count.
			other := sockaddr.Key{NetNS: k.NetNS, Type: k.Type, V6Only: k.V6Only, Address: sockaddr.Address{Family: family, AddrPort: s.Local}}
			if other.Overlaps(k) && !ours(uint64(s.Inode)) && r.home(uint64(s.Inode)) == nil {
				return true, nil
			}
		}
	}
	return false, nil
}
