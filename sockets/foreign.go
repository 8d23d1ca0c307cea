package sockets

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A generation may live in a network namespace of its own (unshare, a sandbox), where sock_diag of the supervisor's
// does not look.

// errOtherNetwork: what listens in another network namespace can only be preserved where it has a path.
var errOtherNetwork = errors.New("a socket of another network namespace than huptime's is not preserved: its address is refused between two generations, " +
	"or in use while both run; start huptime inside that namespace")

func isPathName(name unix.Sockaddr) bool {
	at, ok := name.(*unix.SockaddrUnix)
	return ok && at.Name != "" && at.Name[0] != '@'
}

// nameOf describes a unix socket by the supervisor's own duplicate.
func nameOf(s *Socket) (unixSocket, error) {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return unixSocket{}, os.NewSyscallError("getsockname", err)
	}
	at, ok := name.(*unix.SockaddrUnix)
	if !ok {
		return unixSocket{}, errNotPreservable
	}
	return unixSocket{inode: uint32(s.Inode), state: tcpListen, name: at.Name}, nil
}

// foreignConnections appends to a slice the connected unix sockets of these names in the network namespaces of
// processes that are not the supervisor's own: those of clients that live there, too. (An accepted unix socket belongs
// to the namespace of its client; unix_stream_connect in net/unix/af_unix.c.)
func foreignConnections(to []Connection, pids []int, names map[string]struct{}) []Connection {
	own, _ := os.Readlink("/proc/self/ns/net")
	seen := map[string]bool{own: true}
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		namespace, err := os.Readlink(dir + "/ns/net")
		if err != nil || seen[namespace] {
			continue // gone, or not to be looked into
		}
		text, err := os.ReadFile(dir + "/net/unix")
		if err != nil {
			continue
		}
		seen[namespace] = true
		to = append(to, connectedIn(text, names)...)
	}
	return to
}

// connectedIn reads a /proc/PID/net/unix (proc_pid_net(5)): a heading, and lines of "Num RefCount Protocol Flags Type
// St Inode Path".
func connectedIn(text []byte, names map[string]struct{}) (list []Connection) {
	const state, inode = 5, 6
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		fields := bytes.Fields(line)
		if len(fields) <= inode+1 || string(fields[state]) != "03" { // SS_CONNECTED
			continue
		}
		n, err := strconv.ParseUint(string(fields[inode]), 10, 32)
		if err != nil || n == 0 {
			continue
		}
		for name := range names {
			if bytes.HasSuffix(line, []byte(" "+name)) {
				list = append(list, Connection{Inode: uint32(n), State: tcpEstablished, Family: unix.AF_UNIX, name: name})
			}
		}
	}
	return list
}
