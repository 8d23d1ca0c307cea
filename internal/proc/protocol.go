package proc

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// SocketProtocol returns what the kernel calls the protocol of the socket at a descriptor of a process: "TCP", "TCPv6", "MPTCP",
// "MPTCPv6", "UDP", "UNIX-STREAM" and so on. A socket's file has it as an extended attribute (sockfs_xattr_get in net/socket.c; Linux 2.6.32),
// which needs no descriptor of one's own. A file that is no socket gives an error that is unix.EOPNOTSUPP, and is not asked: a file
// system may take its time to answer (FUSE).
func SocketProtocol(pid, fd int) (string, error) {
	var nameBuf [16]byte
	name := path(pid, string(strconv.AppendInt(append(nameBuf[:0], "/fd/"...), int64(fd), 10)))
	if _, ok, err := DescriptorSocket(pid, fd); err != nil {
		return "", err
	} else if !ok {
		return "", cannotRead(name, unix.EOPNOTSUPP)
	}
	// What is at the number may have changed since, and again: so it is held on to. To open with O_PATH, and to close then, calls nothing of
	// the file's (open(2)).
	at, err := open(name, unix.O_PATH)
	if err != nil {
		return "", cannotRead(name, err)
	}
	defer unix.Close(at)
	self := unix.Getpid()
	if _, ok, err := DescriptorSocket(self, at); err != nil || !ok {
		return "", cannotRead(name, unix.EOPNOTSUPP)
	}
	held := path(self, string(strconv.AppendInt(append(nameBuf[:0], "/fd/"...), int64(at), 10)))
	var buf [64]byte
	n, err := unix.Getxattr(held, "system.sockprotoname", buf[:])
	if err != nil {
		return "", cannotRead(name, err)
	}
	// With its terminating zero.
	if n > 0 && buf[n-1] == 0 {
		n--
	}
	return string(buf[:n]), nil
}
