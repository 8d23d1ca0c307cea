package sockets

import (
	"os"

	"golang.org/x/sys/unix"
)

// door keeps packets from a listening TCP socket on IPv4's loopback.
type door interface {
	// admit lets packets from one port of 127.0.0.1 through from now on, and no other. Which these are changes in one
	// step.
	admit(port uint32) error
	// close gives back what the door holds, which is open from then on if it was a decoy.
	close()
}

// nobody is a port that no packet comes from.
const nobody = 1 << 16

// filterDoor is a socket filter (SO_ATTACH_FILTER in socket(7)) on the listening socket, given by its descriptor. What
// is dropped so is not answered. Accepted connections inherit the filter that their handshake passed. On TCP sockets
// newer kernels permit it with CAP_NET_ADMIN alone (EPERM; seen on 6.18, where UDP sockets take it from anybody).
type filterDoor int

func (f filterDoor) admit(port uint32) error { return attachFilter(int(f), port) }

func (filterDoor) close() {}

// attachFilter lets through what comes from the port.
func attachFilter(fd int, port uint32) error {
	const whole = ^uint32(0)
	return attachProgram(fd, unix.SO_ATTACH_FILTER, from(port, whole))
}

// decoyDoor is another listening socket of the same address, by which nobody accepts: the two make a SO_REUSEPORT
// group, whose program (SO_ATTACH_REUSEPORT_CBPF, Linux 4.5, no privilege) sends all clients there, but those that are
// admitted. Only sockets of the same user can join the group. It owns the descriptor.
type decoyDoor int

// newDecoy makes one, the first of its group, and tells its port. The socket behind the door must be the second.
func newDecoy(family int) (d decoyDoor, port int, err error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, 0, os.NewSyscallError("socket", err)
	}
	defer closeUnless(&err, fd)
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_IP, unix.IP_MINTTL, farthest}, // nor has anybody an answer to expect
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return -1, 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := bindLoopback(fd, family, 0); err != nil {
		return -1, 0, err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return -1, 0, os.NewSyscallError("listen", err)
	}
	if err := decoyDoor(fd).admit(nobody); err != nil {
		return -1, 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, os.NewSyscallError("getsockname", err)
	}
	address, _ := SockaddrOf(name)
	return decoyDoor(fd), int(address.Port()), nil
}

func (d decoyDoor) admit(port uint32) error {
	const second = 1
	return attachProgram(int(d), unix.SO_ATTACH_REUSEPORT_CBPF, from(port, second))
}

func (d decoyDoor) close() { unix.Close(int(d)) }

// from is a program that returns yes for IPv4 packets from that port of 127.0.0.1, and else 0. In a filter the packet
// begins with TCP's header, in a group's program behind that; so it counts from the network header.
func from(port, yes uint32) []unix.SockFilter {
	const (
		network = 0xfff00000 // SKF_NET_OFF, include/uapi/linux/filter.h
		plain   = 0x45       // IPv4, without options
	)
	load := func(size uint16, at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: network + at}
	}
	unless := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
	}
	return []unix.SockFilter{
		load(unix.BPF_B, 0), unless(plain, 5),
		load(unix.BPF_W, 12), unless(0x7f000001, 3),
		load(unix.BPF_H, 20), unless(port, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: yes},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

func attachProgram(fd, option int, program []unix.SockFilter) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}
