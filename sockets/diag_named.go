package sockets

import (
	"huptime/sockets/sockaddr"

	"golang.org/x/sys/unix"
)

// addressesOf lists for people what the sockets with these inodes are bound to, as far as it can be found.
func (d *Diag) addressesOf(inodes map[uint64]struct{}) (names []string) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, kind := range []struct {
			protocol uint8
			state    uint32
			name     string
		}{{unix.IPPROTO_TCP, 1 << tcpListen, "tcp://"}, {unix.IPPROTO_UDP, 1 << tcpClose, "udp://"}} {
			list, err := d.inetSockets(family, kind.protocol, kind.state, 0)
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
		if s, err := d.unixSocketOf(inode); err == nil && s.name != "" {
			names = append(names, sockaddr.UnixString(s.name))
		}
	}
	return names
}

// listeners finds what the listening stream sockets with these inodes are bound to: for each TCP port the sockets, and for each name of a unix
// socket the socket.
func (d *Diag) listeners(inodes map[uint64]struct{}) (ports map[uint16][]uint64, names map[string]uint64, err error) {
	ports, names = make(map[uint16][]uint64), make(map[string]uint64)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := d.inetSockets(family, unix.IPPROTO_TCP, 1<<tcpListen, 0)
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
		if s, err := d.unixSocketOf(inode); err == nil && s.name != "" {
			names[s.name] = inode
		}
	}
	return ports, names, nil
}

// waiting tells how much of a datagram socket's queue is in use, in bytes as SO_RCVBUF counts them; 0 where that can't be told (unix sockets).
func (d *Diag) waiting(k sockaddr.Key, inode uint64) int {
	if k.Address.Family != unix.AF_INET && k.Address.Family != unix.AF_INET6 {
		return 0
	}
	list, err := d.inetSockets(uint8(k.Address.Family), unix.IPPROTO_UDP, 1<<tcpClose, k.Address.Port())
	if err != nil {
		return 0
	}
	for _, s := range list {
		if uint64(s.Inode) == inode {
			return int(s.waiting)
		}
	}
	return 0
}
