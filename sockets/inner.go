package sockets

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// Some services are their own clients: a front process that asks a back process of the same service, a gateway that
// talks to the port beside it, an agent that keeps a connection to itself. A connection of which both ends are one
// generation's is not waited for: it would end with that generation, which waits for it.
//
// While two generations share a queue, either may accept what the new one connects to itself. Such a connection counts,
// for requests may come on it, unless no byte was ever sent on it.

// inner lists those of the own connections whose other end the generation has as well, or a newer one that has never
// used it. What can't be found counts as outside.
func (d *drain) inner() map[uint32]struct{} {
	peers := make(map[uint64]struct{})
	of := make(map[uint32]sockdiag.Peer)
	for _, c := range d.conns {
		if _, own := d.own[c.Inode]; !own {
			continue
		}
		if peer := d.peerOf(c); peer.Inode != 0 {
			of[c.Inode] = peer
			peers[uint64(peer.Inode)] = struct{}{}
		}
	}
	if len(peers) == 0 {
		return nil
	}
	held, _ := proc.Holders(d.t.pids(), peers)
	for inode := range held {
		delete(peers, inode)
	}
	var newer map[uint64][]proc.Holder
	if len(peers) > 0 {
		newer, _ = proc.Holders(d.newer(), peers)
	}
	found := make(map[uint32]struct{})
	for inode, peer := range of {
		if len(held[uint64(peer.Inode)]) > 0 || peer.Unused && len(newer[uint64(peer.Inode)]) > 0 {
			found[inode] = struct{}{}
		}
	}
	return found
}

// peerOf finds a connection's other end, if that is a socket of this machine (and network namespace).
func (d *drain) peerOf(c sockdiag.Connection) sockdiag.Peer {
	if c.Family == unix.AF_UNIX {
		return sockdiag.Peer{Inode: c.Peer}
	}
	if !c.Remote.IsValid() || !d.isLocal(c) {
		return sockdiag.Peer{}
	}
	if c.Protocol == unix.IPPROTO_UDP {
		return sockdiag.Peer{Inode: d.diag.UDPPeer(c)}
	}
	return d.diag.TCPPeer(c)
}

// IsLocal tells whether a connection's other end may be on this machine: every look at a client from elsewhere is
// saved.
func (d *drain) isLocal(c sockdiag.Connection) bool {
	remote := c.Remote.Addr().Unmap().WithZone("")
	if remote.IsLoopback() || remote == c.Local.Addr().Unmap().WithZone("") {
		return true
	}
	if d.local == nil {
		d.local = make(map[netip.Addr]struct{})
		addrs, _ := net.InterfaceAddrs() // what is not known counts as elsewhere
		for _, a := range addrs {
			if prefix, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(prefix.IP); ok {
					d.local[ip.Unmap()] = struct{}{}
				}
			}
		}
	}
	_, ok := d.local[remote]
	return ok
}
