package permission

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Port tells whether a port of the supervisor's network namespace may be bound: nil, or EACCES (inet_bind in net/ipv4/af_inet.c).
// Where it can't be found out the answer is nil.
func (c *Credentials) Port(port uint16) error {
	if port == 0 || int(port) >= firstUnprivileged() {
		return nil
	}
	owner, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(owner)
	return c.overSpace(owner, unix.CAP_NET_BIND_SERVICE)
}

// MachinePort tells whether an AF_VSOCK port may be bound: nil, or EACCES (__vsock_bind_connectible in net/vmw_vsock/af_vsock.c).
func (c *Credentials) MachinePort(port uint32) error {
	const lastReserved = 1023 // LAST_RESERVED_PORT
	if port > lastReserved || c.has(unix.CAP_NET_BIND_SERVICE) {
		return nil
	}
	return unix.EACCES
}

// firstUnprivileged reads net.ipv4.ip_unprivileged_port_start of the supervisor's network namespace (ip-sysctl.rst of the kernel, 4.11). It is for
// IPv6 as well.
func firstUnprivileged() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return n
		}
	}
	return 1024 // PROT_SOCK
}

// Requests of ioctl_ns(2), Linux 4.9 and 4.11.
const (
	getUserNS   = 0xb701 // NS_GET_USERNS
	getParent   = 0xb702 // NS_GET_PARENT
	getOwnerUID = 0xb704 // NS_GET_OWNER_UID
)

// overSpace tells whether the thread has a capability in the user namespace that a namespace belongs to (cap_capable in security/commoncap.c): in
// that one itself, or in one above it, or it owns it from the one right above.
func (c *Credentials) overSpace(of int, capability int) error {
	at, err := unix.IoctlRetInt(of, getUserNS)
	owned := false // by the thread's user, who owns it from the one above
	for err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(at, &st); err == nil && c.space == (namespace{uint64(st.Dev), st.Ino}) {
			unix.Close(at)
			if owned || c.has(capability) {
				return nil
			}
			return unix.EACCES
		}
		owner, errOwner := unix.IoctlGetUint32(at, getOwnerUID)
		owned = errOwner == nil && owner == c.Effective
		below := at
		if err == nil {
			at, err = unix.IoctlRetInt(below, getParent)
		}
		unix.Close(below)
	}
	if err == unix.ENOTTY {
		return nil // an older kernel: not known
	}
	// EPERM: the next one is above the supervisor's own. The thread's, which is its own or one below, is none of those that were passed.
	return unix.EACCES
}
