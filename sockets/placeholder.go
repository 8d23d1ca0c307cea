package sockets

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// placeholder is what a gated generation has in place of a preserved socket: a listening socket that nobody can reach, or a
// datagram socket without a name. A program that accepts from it would answer whoever got there, past the permissions
// of the socket that it stands for; so:
//
//   - unix: it has a file in a directory of the supervisor's own for a moment, and listens when that is gone (see hide).
//   - TCP: it has a port on loopback, and the kernel drops what is sent there (see door).
//   - datagrams: it has no name, and what is sent to the one that it gets when a program answers from it is dropped.
//
// It owns its descriptors.
type placeholder struct {
	fd       int
	inode    uint64
	stands   uint64 // inode of the socket that it stands for
	nonblock bool
	family   int
	kind     int // SOCK_STREAM, SOCK_SEQPACKET or SOCK_DGRAM
	protocol int

	// numbers at which processes have it that can't be looked into.
	numbers map[int]bool

	port   int       // of a TCP socket, on loopback
	closed door      // likewise
	let    *admitted // likewise: whom the door lets in; shared by all copies
	file   int       // of a unix socket: its file, which has no name any more (O_PATH); else -1
}

// unseen tells whether such a process may have it.
func (d *placeholder) unseen() bool { return len(d.numbers) > 0 }

// waits tells whether a connection waits in its queue, or comes in that time.
func (d *placeholder) waits(limit time.Duration) bool {
	polled := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(polled, int(limit/time.Millisecond))
	return n > 0
}

// newPlaceholder makes one of the key's family and type, as blocking as the socket that it stands for.
// For a vsock socket it is a unix one: few kernels have a loopback for these, and any port can be
// reached from the host. For a unix one it is a TCP one where no directory can be written to: phantoms, which
// are all that is ever accepted from it, have another kind of address then, and end as soon.
func newPlaceholder(k sockaddr.Key, nonblock bool) (*placeholder, error) {
	family, kind := int(k.Address.Family), k.Type
	if family == unix.AF_VSOCK {
		family = unix.AF_UNIX
	}
	d, err := makePlaceholder(family, kind, nonblock)
	if errors.Is(err, errNoDirectory) {
		d, err = makePlaceholder(unix.AF_INET, unix.SOCK_STREAM, nonblock)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a placeholder socket: %w", err)
	}
	return d, nil
}

func makePlaceholder(family, kind int, nonblock bool) (*placeholder, error) {
	d := &placeholder{
		nonblock: nonblock, family: family, kind: kind, file: -1,
		numbers: make(map[int]bool), let: newAdmitted(),
	}
	if family != unix.AF_UNIX && kind != unix.SOCK_DGRAM {
		d.protocol = unix.IPPROTO_TCP
	}
	how := kind | unix.SOCK_CLOEXEC
	if nonblock {
		how |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(family, how, d.protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	d.fd = fd
	if err := d.open(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *placeholder) open() (err error) {
	switch {
	case d.kind == unix.SOCK_DGRAM:
		// Unbound: nothing can be sent to it. But a program that answers from it gets a port for it, which is to be as
		// closed. Where a filter is not permitted, that is left.
		_ = dropAll(d.fd)
	case d.family == unix.AF_UNIX:
		err = d.hide()
	default:
		err = d.openTCP()
	}
	return errors.Join(err, d.identify())
}

func (d *placeholder) identify() error {
	var st unix.Stat_t
	err := unix.Fstat(d.fd, &st)
	d.inode = st.Ino
	return os.NewSyscallError("fstat", err)
}

// limitLike gives the placeholder the time after which a call that waits for a datagram returns in vain (SO_RCVTIMEO): programs
// look then whether they are to end.
func (d *placeholder) limitLike(s *Socket) {
	fd, ok := s.copy()
	if !ok {
		return
	}
	defer unix.Close(fd)
	if limit, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO); err == nil {
		_ = unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, limit)
	}
}

// phantom puts a connection into the queue that its peer has already closed. A
// server reads end of file from it and closes it: clients that change their
// mind are everyday business. A program that does nothing but accept takes it
// and waits on. A program that was told "readable" by poll or select, while somebody else
// took the connection, would hang in accept without it, and all its clients with it.
func (d *placeholder) phantom() error {
	if d.family != unix.AF_UNIX {
		return d.enterTCP()
	}
	client, err := unix.Socket(d.family, d.kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, d.protocol)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(client)
	return d.enter(client)
}

// copy has descriptors of its own.
func (d *placeholder) copy() (*placeholder, error) {
	other := *d
	other.fd, other.closed, other.file = -1, nil, -1
	var err error
	if other.fd, err = duplicated(d.fd); err == nil && d.file >= 0 {
		other.file, err = duplicated(d.file)
	}
	if err == nil && d.closed != nil {
		other.closed, err = d.closed.copy(other.fd)
	}
	if err != nil {
		other.close()
		return nil, err
	}
	return &other, nil
}

func duplicated(fd int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("fcntl", err)
	}
	return dup, nil
}

// close gives the supervisor's descriptors back; the generation's own copies of the placeholder live on.
func (d *placeholder) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	if d.closed != nil {
		d.closed.close()
	}
	if d.file >= 0 {
		unix.Close(d.file)
	}
}
