package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// The layout of include/uapi/linux/unix_diag.h.
const (
	sizeofUnixRequest   = 24 // struct unix_diag_req
	unixRequestStatesAt = 4
	unixRequestInodeAt  = 8
	unixRequestShowAt   = 12
	unixRequestCookieAt = 16
	sizeofUnixMessage   = 16 // struct unix_diag_msg
	unixMessageStateAt  = 2
	unixMessageInodeAt  = 4

	showUnixName = 1 // UDIAG_SHOW_NAME
	showUnixFile = 2 // UDIAG_SHOW_VFS
	showUnixPeer = 4 // UDIAG_SHOW_PEER
	unixName     = 0 // UNIX_DIAG_NAME: the bytes behind the family, for a path with its NUL
	unixFile     = 1 // UNIX_DIAG_VFS: inode and device of the socket's file
	unixPeer     = 2 // UNIX_DIAG_PEER: the inode of the other end
)

// UnixSocket is a unix socket as sock_diag(7) shows it.
type UnixSocket struct {
	Inode uint32
	State uint8
	// Name is a path as it was given to bind, or NUL and an abstract name; "" where there is none. Connections have that of
	// the listening socket which they were made to.
	Name string
	File uint32 // the lower half of the inode number of the socket's file; 0 for none
	peer uint32 // the inode of a connection's other end; 0 where it waits in the accept queue, or is closed
}

// UnixConnections appends to a slice the connected unix sockets of these names, which are as [UnixSocket] has them: those made to
// listening sockets of these names and accepted. One that waits in the accept queue has no inode yet, and the kernel does not show it (sk_diag_dump in
// net/unix/diag.c). Of a Connection only Inode, State and Family are set.
// Another process may have a socket of the same name in another directory or root: whose a connection is, its inode tells.
//
// An error leaves the slice as it was.
func (d *Conn) UnixConnections(to []Connection, names map[string]struct{}) ([]Connection, error) {
	if len(names) == 0 {
		return to, nil
	}
	var all []Connection
	err := untilConsistent(func() error {
		all = to
		return d.unixSockets(unixRequest(1<<TCPEstablished, 0, showUnixName|showUnixPeer), netlink.Dump, func(s UnixSocket) {
			if _, ok := names[s.Name]; ok {
				all = append(all, Connection{Inode: s.Inode, State: s.State, Family: unix.AF_UNIX, Name: s.Name, Peer: s.peer})
			}
		})
	})
	if err != nil {
		return to, fmt.Errorf("cannot list unix connections: %w", err)
	}
	return all, nil
}

// UnixSocketOf describes one unix socket of this network namespace. The error matches os.ErrNotExist where there is none, and
// where the kernel has no unix_diag.
func (d *Conn) UnixSocketOf(inode uint64) (UnixSocket, error) {
	var found UnixSocket
	err := d.unixSockets(unixRequest(^uint32(0), uint32(inode), showUnixName|showUnixFile), 0, func(s UnixSocket) { found = s })
	if err == nil && uint64(found.Inode) != inode {
		err = os.ErrNotExist
	}
	if err != nil {
		return UnixSocket{}, fmt.Errorf("cannot look at unix socket %d: %w", inode, err)
	}
	return found, nil
}

// unixRequest builds a struct unix_diag_req; inode 0 is for a dump.
func unixRequest(states, inode, show uint32) []byte {
	b := make([]byte, sizeofUnixRequest)
	b[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(b[unixRequestStatesAt:], states)
	binary.NativeEndian.PutUint32(b[unixRequestInodeAt:], inode)
	binary.NativeEndian.PutUint32(b[unixRequestShowAt:], show)
	binary.NativeEndian.PutUint64(b[unixRequestCookieAt:], ^uint64(0)) // any
	return b
}

// unixSockets makes one request and calls visit for each socket of the answer.
func (d *Conn) unixSockets(request []byte, flags netlink.HeaderFlags, visit func(UnixSocket)) error {
	return d.bySockFamily(request, flags, func(answer iter.Seq2[netlink.Message, error], sequence uint32) error {
		return visitUnix(answer, sequence, visit)
	})
}

// bySockFamily makes one request of SOCK_DIAG_BY_FAMILY, whose answer read reads to its end.
func (d *Conn) bySockFamily(request []byte, flags netlink.HeaderFlags, read func(iter.Seq2[netlink.Message, error], uint32) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	if d.conn == nil {
		if err := d.dial(); err != nil {
			return err
		}
	}
	err := d.exchangeSockets(request, flags, read)
	if err != nil && !errors.Is(err, errInterrupted) {
		_ = d.hangUp() // as dump does
	}
	return err
}

func (d *Conn) exchangeSockets(request []byte, flags netlink.HeaderFlags, read func(iter.Seq2[netlink.Message, error], uint32) error) error {
	if err := d.conn.SetDeadline(time.Now().Add(dumpTimeout)); err != nil {
		return err
	}
	sent, err := d.conn.Send(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | flags},
		Data:   request,
	})
	if err != nil {
		return err
	}
	return read(d.conn.ReceiveIter(), sent.Header.Sequence)
}

// visitUnix reads an answer to its end.
func visitUnix(answer iter.Seq2[netlink.Message, error], sequence uint32, visit func(UnixSocket)) error {
	return visitSockets(answer, sequence, func(data []byte) error {
		s, err := parseUnixSocket(data)
		if err == nil {
			visit(s)
		}
		return err
	})
}

// visitSockets reads an answer to a SOCK_DIAG_BY_FAMILY to its end; visit gets each message without its header.
func visitSockets(answer iter.Seq2[netlink.Message, error], sequence uint32, visit func(data []byte) error) error {
	interrupted := false
	for m, err := range answer {
		if err != nil {
			return err
		}
		if m.Header.Sequence != sequence {
			return fmt.Errorf("answer %d to request %d", m.Header.Sequence, sequence)
		}
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			interrupted = true
		}
		if m.Header.Type != unix.SOCK_DIAG_BY_FAMILY {
			continue
		}
		if err := visit(m.Data); err != nil {
			return err
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

// parseUnixSocket parses a struct unix_diag_msg and the attributes behind it.
func parseUnixSocket(b []byte) (UnixSocket, error) {
	if len(b) < sizeofUnixMessage || b[0] != unix.AF_UNIX {
		return UnixSocket{}, fmt.Errorf("no unix socket in %d bytes", len(b))
	}
	s := UnixSocket{State: b[unixMessageStateAt], Inode: binary.NativeEndian.Uint32(b[unixMessageInodeAt:])}
	attributes, err := netlink.NewAttributeDecoder(b[sizeofUnixMessage:])
	if err != nil {
		return UnixSocket{}, err
	}
	for attributes.Next() {
		switch attributes.Type() {
		case unixName:
			s.Name = sockaddr.UnixName(attributes.Bytes())
		case unixFile:
			if v := attributes.Bytes(); len(v) >= 8 {
				s.File = binary.NativeEndian.Uint32(v)
			}
		case unixPeer:
			if v := attributes.Bytes(); len(v) >= 4 {
				s.peer = binary.NativeEndian.Uint32(v)
			}
		}
	}
	return s, attributes.Err()
}
