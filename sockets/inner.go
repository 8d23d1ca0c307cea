package sockets

import (
	"encoding/binary"
	"iter"
	"net"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"huptime/internal/proc"
)

// Some services are their own clients: a front process that asks a back process of the same service, a gateway that
// talks to the port beside it, an agent that keeps a connection to itself. A connection of which both ends are one
// generation's is not waited for: it would end with that generation, which waits for it.
//
// While two generations share a queue, either may accept what the new one connects to itself. Such a connection counts,
// for requests may come on it, unless no byte was ever sent on it.

// Further places in a struct inet_diag_req_v2 and a struct tcp_info.
const (
	requestV2DetailsAt = 2 // .idiag_ext
	requestV2SourceAt  = 12
	requestV2TargetAt  = 28

	infoBytesAckedAt    = 120 // .tcpi_bytes_acked
	infoBytesReceivedAt = 128 // .tcpi_bytes_received
)

// inner lists those of the own connections whose other end the generation has as well, or a newer one that has never
// used it. What can't be found counts as outside.
func (d *drain) inner() map[uint32]struct{} {
	peers := make(map[uint64]struct{})
	of := make(map[uint32]otherEnd)
	for _, c := range d.conns {
		if _, own := d.own[c.Inode]; !own {
			continue
		}
		if peer := d.peerOf(c); peer.inode != 0 {
			of[c.Inode] = peer
			peers[uint64(peer.inode)] = struct{}{}
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
		if len(held[uint64(peer.inode)]) > 0 || peer.unused && len(newer[uint64(peer.inode)]) > 0 {
			found[inode] = struct{}{}
		}
	}
	return found
}

// otherEnd is the socket that a connection was made from.
type otherEnd struct {
	inode  uint32
	unused bool // no byte was ever sent on the connection, either way
}

// peerOf finds a connection's other end, if that is a socket of this machine (and network namespace).
func (d *drain) peerOf(c Connection) otherEnd {
	if c.Family == unix.AF_UNIX {
		return otherEnd{inode: c.peer}
	}
	if !c.Remote.IsValid() || !d.isLocal(c) {
		return otherEnd{}
	}
	if c.protocol == unix.IPPROTO_UDP {
		return otherEnd{inode: d.diag.udpPeer(c)}
	}
	return d.diag.tcpPeer(c)
}

// IsLocal tells whether a connection's other end may be on this machine: every look at a client from elsewhere is
// saved.
func (d *drain) isLocal(c Connection) bool {
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

// tcpPeer finds the TCP socket whose ends are those of c the other way round. The kernel looks it up in its table
// (inet_diag_find_one_icsk), it makes no list. It finds a socket of either family by IPv4 addresses.
func (d *Diag) tcpPeer(c Connection) otherEnd {
	local, remote := c.Local.Addr().Unmap(), c.Remote.Addr().Unmap()
	b := inetRequest(unix.AF_INET6, unix.IPPROTO_TCP, ^uint32(0), 0)
	b[requestV2DetailsAt] = 1 << (attributeInfo - 1)
	if local.Is4() && remote.Is4() {
		b[0] = unix.AF_INET
	}
	binary.BigEndian.PutUint16(b[requestV2PortAt:], c.Remote.Port())
	binary.BigEndian.PutUint16(b[requestV2PortAt+2:], c.Local.Port())
	copy(b[requestV2SourceAt:], remote.WithZone("").AsSlice())
	copy(b[requestV2TargetAt:], local.WithZone("").AsSlice())
	var found Connection
	unused := false
	err := d.bySockFamily(b, 0, func(answer iter.Seq2[netlink.Message, error], sequence uint32) error {
		return visitSockets(answer, sequence, func(data []byte) (err error) {
			if found, err = parseConnection(data); err == nil {
				unused = !found.Queued && neverUsed(data[sizeofMessage:])
			}
			return err
		})
	})
	// Where there is none the kernel answers with the listening socket of the address, if there is one.
	ends := found.Local.Port() == c.Remote.Port() && found.Remote.Port() == c.Local.Port()
	if err != nil || !ends || found.State == tcpListen {
		return otherEnd{}
	}
	return otherEnd{inode: found.Inode, unused: unused}
}

// neverUsed reads a struct tcp_info (Linux 4.1): whether no byte was received, and none but the SYN acknowledged.
func neverUsed(attributes []byte) bool {
	list, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return false
	}
	for list.Next() {
		if info := list.Bytes(); list.Type() == attributeInfo && len(info) >= infoBytesReceivedAt+8 {
			acked := binary.NativeEndian.Uint64(info[infoBytesAckedAt:])
			return acked <= 1 && binary.NativeEndian.Uint64(info[infoBytesReceivedAt:]) == 0
		}
	}
	return false
}

// udpPeer finds the UDP socket that a conversation's datagrams go to.
func (d *Diag) udpPeer(c Connection) uint32 {
	best := uint32(0)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := d.inetSockets(family, unix.IPPROTO_UDP, 1<<tcpEstablished|1<<tcpClose, c.Remote.Port())
		if err != nil {
			return 0
		}
		for _, s := range list {
			local, remote := s.Local.Addr().Unmap(), s.Remote.Addr().Unmap()
			switch {
			case local != c.Remote.Addr().Unmap() && !local.IsUnspecified():
			case s.State == tcpEstablished:
				if s.Remote.Port() == c.Local.Port() && remote == c.Local.Addr().Unmap() {
					return s.Inode
				}
			case s.State == tcpClose:
				best = s.Inode
			}
		}
	}
	return best
}
