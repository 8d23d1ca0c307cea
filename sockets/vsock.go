package sockets

import (
	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// machineConnections appends to a slice the AF_VSOCK connections of the processes whose local port is one of ports. The kernel lists them by sock_diag
// only where it was built with CONFIG_VSOCKETS_DIAG, and without their ports' owners; so each such socket is looked at, by a duplicate that is closed at
// once. Where it can't be copied (pidfd_getfd is denied) it counts as a connection: a drain then waits for the sockets by which the service itself
// has connected, too.
func machineConnections(to []sockdiag.Connection, pids []int, ports map[uint32]struct{}) []sockdiag.Connection {
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
				to = append(to, sockdiag.Connection{Inode: uint32(inode), State: sockdiag.TCPEstablished, Family: unix.AF_VSOCK})
			}
		}
	}
	return to
}

func isMachineConnection(pid, fd int, ports map[uint32]struct{}) bool {
	own, err := fdpass.CopySocket(pid, fd)
	if fdpass.Denied(err) {
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
