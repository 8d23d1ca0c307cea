package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The layout of include/uapi/linux/inet_diag.h: struct inet_diag_req_v2.
const (
	sizeofRequestV2   = 56
	requestV2StatesAt = 4
	requestV2PortAt   = 8
	requestV2CookieAt = 48

	// TCP states of sockets that are no connections, include/net/tcp_states.h. A datagram socket without a peer is in TCP_CLOSE.
	TCPSynReceived    = 3
	TCPClose          = 7
	TCPListen         = 10
	TCPNewSynReceived = 12

	// maxPortsOneByOne: more ports than these are asked for all at once.
	maxPortsOneByOne = 8
)

// InetSocket is an internet socket that is no connection: a listening one, or a datagram socket.
type InetSocket struct {
	Connection
	Waiting uint32 // connections in the accept queue of a listening socket, or bytes of datagrams
}

// UDPConversations appends to a slice the UDP sockets that have a peer and one of these local ports. Of a Connection all is set but
// Idle and Queued. A kernel without udp_diag (CONFIG_INET_UDP_DIAG) shows none.
//
// An error leaves the slice as it was.
func (d *Conn) UDPConversations(to []Connection, ports map[uint16]struct{}) ([]Connection, error) {
	all := to
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, port := range asked(ports) {
			list, err := d.InetSockets(family, unix.IPPROTO_UDP, 1<<TCPEstablished, port)
			if err != nil {
				return to, fmt.Errorf("cannot list UDP sockets: %w", err)
			}
			for _, s := range list {
				if _, ok := ports[s.Local.Port()]; ok {
					s.Protocol = unix.IPPROTO_UDP
					all = append(all, s.Connection)
				}
			}
		}
	}
	return all, nil
}

// asked are the ports to ask for one after the other; 0 is all.
func asked(ports map[uint16]struct{}) []uint16 {
	var list []uint16
	for port := range ports {
		list = append(list, port)
	}
	if len(list) > maxPortsOneByOne {
		return []uint16{0}
	}
	return list
}

// InetSockets lists the sockets of one family, protocol and local port that are in one of states (bits by number), in the kernel's own order.
func (d *Conn) InetSockets(family, protocol uint8, states uint32, port uint16) ([]InetSocket, error) {
	var list []InetSocket
	err := untilConsistent(func() error {
		list = list[:0]
		return d.bySockFamily(inetRequest(family, protocol, states, port), netlink.Dump, func(answer iter.Seq2[netlink.Message, error], sequence uint32) error {
			return visitSockets(answer, sequence, func(data []byte) error {
				c, err := parseConnection(data)
				if err != nil {
					return err
				}
				list = append(list, InetSocket{c, binary.NativeEndian.Uint32(data[messageReadAt:])})
				return nil
			})
		})
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

func inetRequest(family, protocol uint8, states uint32, port uint16) []byte {
	b := make([]byte, sizeofRequestV2)
	b[0], b[1] = family, protocol
	binary.NativeEndian.PutUint32(b[requestV2StatesAt:], states)
	binary.BigEndian.PutUint16(b[requestV2PortAt:], port)
	binary.NativeEndian.PutUint64(b[requestV2CookieAt:], ^uint64(0)) // any
	return b
}
