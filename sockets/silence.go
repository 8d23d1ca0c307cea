package sockets

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
)

// silence silences entries of epoll sets, for which it needs the sockets: the supervisor's own copies, and after it has given
// those up, for processes that are visited late, copies of what one of pids holds.
func (t *Tracker) silence(g *gate, entries []epollset.Entry, pids []int, copyOf fdpass.Copier) error {
	e := epollset.Edit{Sockets: make(map[uint64]int), CopyOf: copyOf}
	defer func() {
		for _, fd := range e.Sockets {
			unix.Close(fd)
		}
	}()
	missing := make(map[uint64]struct{})
	for _, r := range entries {
		if r.Silent() {
			continue
		}
		e.Entries = append(e.Entries, r)
		e.Datagrams = e.Datagrams || g.socket(r.Inode).Key.IsDatagram()
		if _, ok := e.Sockets[r.Inode]; ok {
			continue
		}
		if fd, ok := g.socket(r.Inode).copy(); ok {
			e.Sockets[r.Inode] = fd
		} else {
			missing[r.Inode] = struct{}{}
		}
	}
	var failed error
	if len(missing) > 0 {
		holders, _ := proc.Holders(pids, missing)
		for inode, list := range holders {
			fd, err := firstCopy(list, inode, copyOf)
			failed = errors.Join(failed, err)
			if fd >= 0 {
				e.Sockets[inode] = fd
			}
		}
	}
	if err := e.Apply(); err != nil {
		return errors.Join(err, failed)
	}
	return nil
}

// firstCopy copies a socket from the first who has it yet; what is at the number by now may be another one.
func firstCopy(holders []proc.Holder, inode uint64, copyOf fdpass.Copier) (int, error) {
	var failed error
	for _, h := range holders {
		fd, err := copyOf(h.PID, h.FD, fdpass.Socket)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Ino == inode {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, failed
}
