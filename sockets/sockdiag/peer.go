package sockdiag

import (
	"encoding/binary"
	"iter"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Further places in a struct inet_diag_req_v2 and a struct tcp_info.
const (
	requestV2DetailsAt = 2 // .idiag_ext
	requestV2SourceAt  = 12
	requestV2TargetAt  = 28

	infoBytesAckedAt    = 120 // .tcpi_bytes_acked
	infoBytesReceivedAt = 128 // .tcpi_bytes_received
)

// Peer is the socket that a connection was made from.
type Peer struct {
	Inode  uint32
	Unused bool // no byte was ever sent on the connection, either way
}

// TCPPeer finds the TCP socket whose ends are those of c the other way round. The kernel looks it up in its table
// (inet_diag_find_one_icsk), it makes no list. It finds a socket of either family by IPv4 addresses.
func (d *Conn) TCPPeer(c Connection) Peer {
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
	if err != nil || !ends || found.State == TCPListen {
		return Peer{}
	}
	return Peer{Inode: found.Inode, Unused: unused}
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

// UDPPeer finds the UDP socket that a conversation's datagrams go to.
func (d *Conn) UDPPeer(c Connection) uint32 {
	best := uint32(0)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := d.InetSockets(family, unix.IPPROTO_UDP, 1<<TCPEstablished|1<<TCPClose, c.Remote.Port())
		if err != nil {
			return 0
		}
		for _, s := range list {
			local, remote := s.Local.Addr().Unmap(), s.Remote.Addr().Unmap()
			switch {
			case local != c.Remote.Addr().Unmap() && !local.IsUnspecified():
			case s.State == TCPEstablished:
				if s.Remote.Port() == c.Local.Port() && remote == c.Local.Addr().Unmap() {
					return s.Inode
				}
			case s.State == TCPClose:
				best = s.Inode
			}
		}
	}
	return best
}
