package sockets

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// A listening socket may be in no process for a time: while it is in a message (SCM_RIGHTS) from one to another, or
// between two that hand it over by other means. The kernel lists it all the while. It is not closed, so its generation
// is not one without sockets.

// A restart waits for such a socket; mostly it is received at once.
const (
	flightLimit    = 250 * time.Millisecond
	flightInterval = 5 * time.Millisecond
)

// errInFlight: the restart can't be begun now.
var errInFlight = errors.New("no process has it at this moment; " +
	"it may be in a message from one to another (SCM_RIGHTS); send SIGHUP again")

// found is what became of listening sockets.
type found struct {
	holders map[uint64][]proc.Holder
	opaque  []int             // processes that may not be looked into
	open    map[uint64]string // their addresses, where nobody has them and the kernel lists them all the same
}

// find looks for listening sockets in the processes of a generation. Those that are in none of them, nor in any other
// process that can be looked at, and are not closed it looks for again, for as long as flightLimit.
func find(pids []int, wanted map[uint64]struct{}) (found, error) {
	for limit := time.Now().Add(flightLimit); ; time.Sleep(flightInterval) {
		f := found{}
		f.holders, f.opaque = proc.Holders(pids, wanted)
		missing := make(map[uint64]struct{})
		for inode := range wanted {
			if len(f.holders[inode]) == 0 {
				missing[inode] = struct{}{}
			}
		}
		if len(missing) == 0 {
			return f, nil
		}
		var err error
		if f.open, err = listening(missing); err != nil {
			return f, err
		}
		if len(f.open) > 0 {
			// The supervisor's own copies, and older generations, are no reason to think that it is wanted.
			everybody, _ := proc.Processes() // those that can be seen
			others, _ := proc.Holders(everybody, missing)
			for inode := range others {
				delete(f.open, inode)
			}
		}
		if len(f.open) == 0 || len(f.opaque) > 0 || time.Now().After(limit) {
			return f, nil
		}
	}
}

// inFlight is the error for the sockets that are open and in no process.
func (f found) inFlight() error {
	var names []string
	for _, name := range f.open {
		names = append(names, name)
	}
	return fmt.Errorf("listening socket %s: %w", strings.Join(names, ", "), errInFlight)
}

// stillOpen tells whether a socket listens, whoever has it. Where that can't be told it is taken to do so.
func stillOpen(inode uint64) bool {
	open, err := listening(map[uint64]struct{}{inode: {}})
	return err != nil || len(open) > 0
}

// listening picks those sockets of this network namespace that listen, or, datagram sockets, are bound, and names them.
func listening(inodes map[uint64]struct{}) (map[uint64]string, error) {
	diag, err := sockdiag.Open()
	if err != nil {
		return nil, err
	}
	defer diag.Close()
	open := make(map[uint64]string)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for protocol, states := range map[uint8]uint32{unix.IPPROTO_TCP: 1 << sockdiag.TCPListen, unix.IPPROTO_UDP: 1 << sockdiag.TCPClose} {
			list, err := diag.InetSockets(family, protocol, states, 0)
			if err != nil {
				return nil, fmt.Errorf("cannot list listening sockets: %w", err)
			}
			for _, s := range list {
				if _, ok := inodes[uint64(s.Inode)]; ok {
					open[uint64(s.Inode)] = s.Local.String()
				}
			}
		}
	}
	for inode := range inodes {
		if _, ok := open[inode]; ok {
			continue
		}
		s, err := diag.UnixSocketOf(inode)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.State == sockdiag.TCPListen {
			open[inode] = sockaddr.UnixString(s.Name)
		}
	}
	return open, nil
}
