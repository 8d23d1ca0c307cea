package sockets

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
)

// sizeofSockaddrVM is the least length of a struct sockaddr_vm (vsock_addr_cast in net/vmw_vsock/vsock_addr.c).
const sizeofSockaddrVM = 16

// Machine is what an AF_VSOCK address (vsock(7)) consists of.
type Machine struct {
	CID  uint32 // the context identifier; VMADDR_CID_ANY is all
	Port uint32 // VMADDR_PORT_ANY leaves it to the kernel; 0 is a port like others
}

func addressVM(cid, port uint32) Address {
	return Address{Family: unix.AF_VSOCK, Machine: Machine{CID: cid, Port: port}}
}

// String returns "*:1234" or "3:1234".
func (m Machine) String() string {
	cid := "*"
	if m.CID != unix.VMADDR_CID_ANY {
		cid = strconv.FormatUint(uint64(m.CID), 10)
	}
	return fmt.Sprintf("%s:%d", cid, m.Port)
}

// machineConnections appends to a slice the AF_VSOCK connections of the processes whose local port is one of ports. The kernel lists them by sock_diag
// only where it was built with CONFIG_VSOCKETS_DIAG, and without their ports' owners; so each such socket is looked at, by a duplicate that is closed at
// once. Where it can't be copied (pidfd_getfd is denied) it counts as a connection: a drain then waits for the sockets by which the service itself
// has connected, too.
func machineConnections(to []Connection, pids []int, ports map[uint32]struct{}) []Connection {
	if len(ports) == 0 {
		return to
	}
	for _, pid := range pids {
		descriptors, err := proc.Descriptors(pid)
		if err != nil {
			continue // gone, or not to be looked into
		}
		for _, d := range descriptors {
			inode, ok := proc.SocketInode(d.Link)
			if !ok {
				continue
			}
			if protocol, err := proc.SocketProtocol(pid, d.Number); err != nil || protocol != "AF_VSOCK" {
				continue
			}
			if isMachineConnection(pid, d.Number, ports) {
				to = append(to, Connection{Inode: uint32(inode), State: tcpEstablished, Family: unix.AF_VSOCK})
			}
		}
	}
	return to
}

func isMachineConnection(pid, fd int, ports map[uint32]struct{}) bool {
	own, err := duplicate(pid, fd)
	if denied(err) {
		return true
	}
	if err != nil {
		return false
	}
	defer unix.Close(own)
	name, err := unix.Getsockname(own)
	local, ok := name.(*unix.SockaddrVM)
	if err != nil || !ok {
		return false
	}
	if _, ok := ports[local.Port]; !ok {
		return false
	}
	_, err = unix.Getpeername(own)
	return err == nil
}
