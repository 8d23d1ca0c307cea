package sockets

import (
	"errors"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
	"huptime/sockets/fdpass"
)

// silence silences entries of epoll sets, for which it needs the sockets: the supervisor's own copies, and after it has given
// those up, for processes that are visited late, copies of what one of pids holds.
func (t *Tracker) silence(g *gate, entries []registration, pids []int, copyOf fdpass.Copier) error {
	e := edit{sockets: make(map[uint64]int), copyOf: copyOf}
	defer func() {
		for _, fd := range e.sockets {
			unix.Close(fd)
		}
	}()
	missing := make(map[uint64]struct{})
	for _, r := range entries {
		if r.silent() {
			continue
		}
		e.entries = append(e.entries, r)
		e.datagrams = e.datagrams || g.socket(r.inode).Key.IsDatagram()
		if _, ok := e.sockets[r.inode]; ok {
			continue
		}
		if fd, ok := g.socket(r.inode).copy(); ok {
			e.sockets[r.inode] = fd
		} else {
			missing[r.inode] = struct{}{}
		}
	}
	var failed error
	if len(missing) > 0 {
		holders, _ := proc.Holders(pids, missing)
		for inode, list := range holders {
			fd, err := firstCopy(list, inode, copyOf)
			failed = errors.Join(failed, err)
			if fd >= 0 {
				e.sockets[inode] = fd
			}
		}
	}
	if err := e.do(); err != nil {
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
