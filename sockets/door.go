package sockets

import (
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// door keeps clients from a listening TCP socket on IPv4's loopback.
type door interface {
	// admit lets clients at these ports of 127.0.0.1 through from now on, and no others. Which these are changes in one
	// step.
	admit(ports []uint32) error
	// copy has what it holds once more. fd is a copy of the listening socket, which stays the caller's.
	copy(fd int) (door, error)
	// close gives back what the door holds, which is open when the last copy of a decoy is closed.
	close()
}

// mostAdmitted bounds how many are let through at once. A program that is too long is refused (net.core.optmem_max).
const mostAdmitted = 64

// admitted are the ports of clients that a door lets through. It may be used from any goroutine.
type admitted struct {
	mu    sync.Mutex
	left  sync.Cond // one has been removed
	ports []uint32
}

func newAdmitted() *admitted {
	a := &admitted{}
	a.left.L = &a.mu
	return a
}

// add lets one more through; where there are too many it waits until one has passed, handshakeLimit at the longest.
func (a *admitted) add(d door, port uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.ports) >= mostAdmitted {
		a.left.Wait()
	}
	a.ports = append(a.ports, port)
	return d.admit(a.ports)
}

// remove closes the door behind one that was added, whether or not that has succeeded.
func (a *admitted) remove(d door, port uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports = slices.DeleteFunc(a.ports, func(p uint32) bool { return p == port })
	a.left.Signal()
	return d.admit(a.ports)
}

// filterDoor is a socket filter (SO_ATTACH_FILTER in socket(7)) on the listening socket, given by its descriptor. What
// is dropped so is not answered. On TCP sockets newer kernels permit it with CAP_NET_ADMIN alone (EPERM; seen on 6.18,
// where UDP sockets take it from anybody).
//
// It is asked for each packet that comes to the listening socket: also for the one that ends a handshake, and the
// client knows before that that it is connected, and the door may be closed by then. So it lets everything through that
// does not begin a connection. Accepted connections inherit it.
type filterDoor int

func (f filterDoor) admit(ports []uint32) error {
	const (
		flags  = 33 // of TCP, behind 20 bytes of IPv4
		synAck = 0x12
		syn    = 0x02
		whole  = ^uint32(0)
	)
	program := append(plainIPv4(),
		load(unix.BPF_B, flags),
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: synAck},
		jump(syn, 1, 0), returns(whole))
	return attachProgram(int(f), unix.SO_ATTACH_FILTER, append(program, from(ports, whole)...))
}

func (filterDoor) copy(fd int) (door, error) { return filterDoor(fd), nil }

func (filterDoor) close() {}

// dropAll drops every packet.
func dropAll(fd int) error {
	return attachProgram(fd, unix.SO_ATTACH_FILTER, []unix.SockFilter{returns(0)})
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
	if err := decoyDoor(fd).admit(nil); err != nil {
		return -1, 0, err
	}
	if port, err = portOf(fd); err != nil {
		return -1, 0, err
	}
	return decoyDoor(fd), port, nil
}

func (d decoyDoor) admit(ports []uint32) error {
	const second = 1
	return attachProgram(int(d), unix.SO_ATTACH_REUSEPORT_CBPF, append(plainIPv4(), from(ports, second)...))
}

func (d decoyDoor) copy(int) (door, error) {
	fd, err := duplicated(int(d))
	if err != nil {
		return nil, err
	}
	return decoyDoor(fd), nil
}

func (d decoyDoor) close() { unix.Close(int(d)) }

// from goes on behind plainIPv4: it returns yes for packets from these ports of 127.0.0.1, and else 0.
func from(ports []uint32, yes uint32) []unix.SockFilter {
	const loopback = 0x7f000001
	program := []unix.SockFilter{load(unix.BPF_W, 12), jump(loopback, 1, 0), returns(0), load(unix.BPF_H, 20)}
	for _, port := range ports {
		program = append(program, jump(port, 0, 1), returns(yes))
	}
	return append(program, returns(0))
}

// plainIPv4 begins a program: it returns 0 for packets that are not of IPv4, or have options.
func plainIPv4() []unix.SockFilter {
	const plain = 0x45
	return []unix.SockFilter{load(unix.BPF_B, 0), jump(plain, 1, 0), returns(0)}
}

// load reads from the packet, counted from the network header: in a filter the packet begins with TCP's header, in a
// group's program behind that.
func load(size uint16, at uint32) unix.SockFilter {
	const network = 0xfff00000 // SKF_NET_OFF, include/uapi/linux/filter.h
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: network + at}
}

// jump skips so many instructions if what was read is k, or else so many others.
func jump(k uint32, is, isNot uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: is, Jf: isNot}
}

func returns(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

func attachProgram(fd, option int, program []unix.SockFilter) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}
