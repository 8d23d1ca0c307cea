package sockdiag

import (
	"github.com/huptime/huptime/sockets/sockaddr"

	"golang.org/x/sys/unix"
)

// AddressesOf lists for people what the sockets with these inodes are bound to, as far as it can be found.
func (d *Conn) AddressesOf(inodes map[uint64]struct{}) (names []string) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, kind := range []struct {
			protocol uint8
			state    uint32
			name     string
		}{{unix.IPPROTO_TCP, 1 << TCPListen, "tcp://"}, {unix.IPPROTO_UDP, 1 << TCPClose, "udp://"}} {
			list, err := d.InetSockets(family, kind.protocol, kind.state, 0)
			if err != nil {
				continue
			}
			for _, s := range list {
				if _, ok := inodes[uint64(s.Inode)]; ok {
					names = append(names, kind.name+s.Local.String())
				}
			}
		}
	}
	for inode := range inodes {
		if s, err := d.UnixSocketOf(inode); err == nil && s.Name != "" {
			names = append(names, sockaddr.UnixString(s.Name))
		}
	}
	return names
}

// Listeners finds what the listening stream sockets with these inodes are bound to: for each TCP port the sockets, and for each name of a unix
// socket the socket.
func (d *Conn) Listeners(inodes map[uint64]struct{}) (ports map[uint16][]uint64, names map[string]uint64, err error) {
	ports, names = make(map[uint16][]uint64), make(map[string]uint64)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := d.InetSockets(family, unix.IPPROTO_TCP, 1<<TCPListen, 0)
		if err != nil {
			return nil, nil, err
		}
		for _, s := range list {
			if _, wanted := inodes[uint64(s.Inode)]; wanted {
				ports[s.Local.Port()] = append(ports[s.Local.Port()], uint64(s.Inode))
			}
		}
	}
	for inode := range inodes {
		if s, err := d.UnixSocketOf(inode); err == nil && s.Name != "" {
			names[s.Name] = inode
		}
	}
	return ports, names, nil
}

// QueuedBytes tells how much of a datagram socket's queue is in use, in bytes as SO_RCVBUF counts them; 0 where that can't be told (unix sockets).
func (d *Conn) QueuedBytes(k sockaddr.Key, inode uint64) int {
	if k.Address.Family != unix.AF_INET && k.Address.Family != unix.AF_INET6 {
		return 0
	}
	list, err := d.InetSockets(uint8(k.Address.Family), unix.IPPROTO_UDP, 1<<TCPClose, k.Address.Port())
	if err != nil {
		return 0
	}
	for _, s := range list {
		if uint64(s.Inode) == inode {
			return int(s.Waiting)
		}
	}
	return 0
}
