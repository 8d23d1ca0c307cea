package proc

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// SocketProtocol returns what the kernel calls the protocol of the socket at a descriptor of a process: "TCP", "TCPv6", "MPTCP",
// "MPTCPv6", "UDP", "UNIX-STREAM" and so on. A socket's file has it as an extended attribute (sockfs_xattr_get in net/socket.c; Linux 2.6.32),
// which needs no descriptor of one's own. A file that is no socket gives an error that is unix.EOPNOTSUPP or unix.ENODATA.
func SocketProtocol(pid, fd int) (string, error) {
	var nameBuf [16]byte
	name := path(pid, string(strconv.AppendInt(append(nameBuf[:0], "/fd/"...), int64(fd), 10)))
	var buf [64]byte
	n, err := unix.Getxattr(name, "system.sockprotoname", buf[:])
	if err != nil {
		return "", cannotRead(name, err)
	}
	// With its terminating zero.
	if n > 0 && buf[n-1] == 0 {
		n--
	}
	return string(buf[:n]), nil
}
