package sockets

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
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
func nameOf(s *Socket) (sockdiag.UnixSocket, error) {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return sockdiag.UnixSocket{}, os.NewSyscallError("getsockname", err)
	}
	at, ok := name.(*unix.SockaddrUnix)
	if !ok {
		return sockdiag.UnixSocket{}, sockaddr.ErrNotPreservable
	}
	return sockdiag.UnixSocket{Inode: uint32(s.Inode), State: sockdiag.TCPListen, Name: at.Name}, nil
}

// foreignConnections appends to a slice the connected unix sockets of these names in the network namespaces of
// processes that are not the supervisor's own: those of clients that live there, too. (An accepted unix socket belongs
// to the namespace of its client; unix_stream_connect in net/unix/af_unix.c.)
func foreignConnections(to []sockdiag.Connection, pids []int, names map[string]struct{}) []sockdiag.Connection {
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
// St Inode Path". The path is as it was bound, and may have blanks and newlines.
func connectedIn(text []byte, names map[string]struct{}) (list []sockdiag.Connection) {
	const state, inode, fields = 5, 6, 7
	for len(text) > 0 {
		var field [fields][]byte
		for i := range field {
			text = bytes.TrimLeft(text, " ")
			end := bytes.IndexAny(text, " \n")
			if end < 0 {
				end = len(text)
			}
			field[i], text = text[:end], text[end:]
		}
		name, named := nameBefore(text, names)
		_, text, _ = bytes.Cut(text[len(name):], []byte("\n"))
		n, err := strconv.ParseUint(string(field[inode]), 10, 32)
		if named && string(field[state]) == "03" && err == nil && n != 0 { // SS_CONNECTED
			list = append(list, sockdiag.Connection{Inode: uint32(n), State: sockdiag.TCPEstablished, Family: unix.AF_UNIX, Name: name})
		}
	}
	return list
}

// nameBefore finds which of the names a text begins with, after a blank, that ends a line there. Of two it is the
// longer one.
func nameBefore(text []byte, names map[string]struct{}) (found string, ok bool) {
	text, ok = bytes.CutPrefix(text, []byte(" "))
	if !ok {
		return "", false
	}
	ok = false
	for name := range names {
		rest, begins := bytes.CutPrefix(text, []byte(name))
		if begins && (len(rest) == 0 || rest[0] == '\n') && len(name) >= len(found) {
			found, ok = name, true
		}
	}
	return found, ok
}
