package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Descriptor is one open descriptor of a process.
type Descriptor struct {
	Number int
	Link   string // what the link says: a path, "socket:[123]", "pipe:[123]", "anon_inode:[eventpoll]"
}

// Descriptors lists the open descriptors of a process, ascending: /proc/PID/fd, proc_pid_fd(5). One that is closed meanwhile
// is left out. It is the table of the main thread; a thread that has its own (unshare(2) with CLONE_FILES) is not seen.
func Descriptors(pid int) ([]Descriptor, error) {
	var list []Descriptor
	err := links(pid, func(fd int, link []byte) {
		list = append(list, Descriptor{Number: fd, Link: string(link)})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Descriptor) int { return a.Number - b.Number })
	return list, nil
}

// links calls visit with every open descriptor and what its link says; the bytes are valid during the call only.
func links(pid int, visit func(fd int, link []byte)) error {
	name := path(pid, "/fd")
	dir, err := open(name, unix.O_DIRECTORY)
	if err != nil {
		return cannotRead(name, err)
	}
	defer unix.Close(dir)
	var few [64]int
	fds, err := numbers(dir, few[:0])
	if err != nil {
		return cannotRead(name, err)
	}
	var buf [unix.PathMax]byte
	for _, fd := range fds {
		n, err := unix.Readlinkat(dir, strconv.Itoa(fd), buf[:])
		switch {
		case err == nil:
			visit(fd, buf[:n])
		case errors.Is(err, fs.ErrNotExist), err == unix.ESRCH, err == unix.ENAMETOOLONG:
			// Closed meanwhile (or a path that is longer than a path may be, which is no socket).
		default:
			return cannotRead(name, err)
		}
	}
	return nil
}

// SocketInode returns the inode number in "socket:[123]", which is how a link names a socket of any family.
func SocketInode(link string) (inode uint64, ok bool) {
	digits, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	if digits, ok = strings.CutSuffix(digits, "]"); !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(digits, 10, 64)
	return inode, err == nil
}

// socketInode is SocketInode for bytes in place.
func socketInode(link []byte) (inode uint64, ok bool) {
	const prefix = "socket:["
	if len(link) < len(prefix) || string(link[:len(prefix)]) != prefix {
		return 0, false
	}
	inode, rest, ok := decimal(link[len(prefix):])
	return inode, ok && string(rest) == "]"
}

// IsEpoll tells whether a link is that of an epoll set.
func IsEpoll(link string) bool { return link == "anon_inode:[eventpoll]" }

// IsURing tells whether a link is that of an io_uring instance.
func IsURing(link string) bool { return link == "anon_inode:[io_uring]" }

// DescriptorSocket returns the inode number of the socket at a descriptor of a process; not ok where there is something
// else. A descriptor that is not open, like a process that is gone, gives an error that matches os.ErrNotExist.
func DescriptorSocket(pid, fd int) (inode uint64, ok bool, err error) {
	var nameBuf [16]byte
	name := path(pid, string(strconv.AppendInt(append(nameBuf[:0], "/fd/"...), int64(fd), 10)))
	// A link that does not fit is cut, and is not a socket's.
	var buf [64]byte
	n, err := unix.Readlink(name, buf[:])
	if err != nil {
		return 0, false, cannotRead(name, err)
	}
	inode, ok = socketInode(buf[:n])
	return inode, ok, nil
}

// NetNS returns the inode number of a process's network namespace: /proc/PID/ns/net, namespaces(7). Two processes are
// in the same one exactly if the numbers are equal.
func NetNS(pid int) (uint64, error) {
	name := path(pid, "/ns/net")
	var buf [64]byte
	n, err := unix.Readlink(name, buf[:])
	if err != nil {
		return 0, cannotRead(name, err)
	}
	inode, err := parseNetNS(buf[:n])
	if err != nil {
		return 0, cannotRead(name, err)
	}
	return inode, nil
}

func parseNetNS(link []byte) (uint64, error) {
	const prefix = "net:["
	if len(link) > len(prefix) && string(link[:len(prefix)]) == prefix {
		if inode, rest, ok := decimal(link[len(prefix):]); ok && string(rest) == "]" {
			return inode, nil
		}
	}
	return 0, fmt.Errorf("%w: %q is no network namespace", ErrFormat, string(link))
}

// Holder is a descriptor of a process.
type Holder struct{ PID, FD int }

// Holders finds who of pids holds which of the sockets with these inode numbers. Processes that are gone are left
// out; those that may not be looked into (another user's, or not dumpable) are returned as opaque.
func Holders(pids []int, inodes map[uint64]struct{}) (holders map[uint64][]Holder, opaque []int) {
	holders = make(map[uint64][]Holder)
	for _, pid := range pids {
		err := links(pid, func(fd int, link []byte) {
			inode, ok := socketInode(link)
			if !ok {
				return
			}
			if _, wanted := inodes[inode]; wanted {
				holders[inode] = append(holders[inode], Holder{PID: pid, FD: fd})
			}
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			opaque = append(opaque, pid)
		}
	}
	return holders, opaque
}
