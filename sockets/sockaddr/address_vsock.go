package sockaddr

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// SizeofVM is the least length of a struct sockaddr_vm (vsock_addr_cast in net/vmw_vsock/vsock_addr.c).
const SizeofVM = 16

// Machine is what an AF_VSOCK address (vsock(7)) consists of.
type Machine struct {
	CID  uint32 // the context identifier; VMADDR_CID_ANY is all
	Port uint32 // VMADDR_PORT_ANY leaves it to the kernel; 0 is a port like others
}

// VM is an address of AF_VSOCK.
func VM(cid, port uint32) Address {
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
