package sockets

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
)

// trade says which sockets take the place of which others, by the inodes of those that go: placeholders of preserved ones at
// a gate, preserved ones of placeholders on the way back, and a preserved one of a starting generation's own.
type trade struct {
	// incoming is the supervisor's descriptor of what comes. It is not ok once there is none any more: the generation
	// is over.
	incoming func(inode uint64) (fd int, ok bool)
	// outgoing copies what goes. It is not ok where the supervisor has none. The caller closes the copy.
	outgoing func(inode uint64) (fd int, ok bool)
	// stale handles entries of epoll sets whose number is closed, or another file's; nil where they may stay.
	stale func(f *remote.Frozen, pid int, entries []epollset.Entry) error
}

// held is a socket at a descriptor of a frozen process.
type held struct {
	fd      int
	inode   uint64
	cloexec bool
}

// manyEntries is from how many entries in epoll sets on it is quicker to change them from outside, for which a thread
// is made, than by two remote calls each.
const manyEntries = 16

// exchange puts the sockets that come in place of those that go, at these descriptors of a frozen process and in its
// epoll sets, in which those have these entries. Entries get what the program had asked for.
func (t *Tracker) exchange(tr trade, f *remote.Frozen, pid int, entries []epollset.Entry, list []held) error {
	swapped := make(map[int]bool, len(list))
	for _, h := range list {
		swapped[h.fd] = true
	}
	edited, err := tr.editEntries(entries, swapped)
	if err != nil {
		return err
	}
	if !edited {
		if err := tr.takeOut(f, pid, entries); err != nil {
			return err
		}
	}
	if err := t.swapRemotely(tr, f, pid, list); err != nil || edited {
		return err
	}
	return t.reregister(f, entries, swapped)
}

// editEntries replaces the sockets in the entries by those that come, or takes them out where they are not to be
// swapped. It does nothing where that is better done, or can only be done, by remote calls.
func (tr trade) editEntries(entries []epollset.Entry, swapped map[int]bool) (done bool, err error) {
	if len(entries) < manyEntries {
		return false, nil
	}
	e := epollset.Edit{Entries: entries, Sockets: make(map[uint64]int), Successors: make(map[epollset.Entry]int), Remove: true, CopyOf: fdpass.Copy}
	defer e.CloseSockets()
	for _, r := range entries {
		if swapped[r.Target] {
			fd, ok := tr.incoming(r.Inode)
			if !ok {
				return false, remote.ErrGone
			}
			e.Successors[r] = fd
		}
		if _, ok := e.Sockets[r.Inode]; ok {
			continue
		}
		fd, ok := tr.outgoing(r.Inode)
		if !ok {
			return false, nil // the supervisor has given its own up
		}
		e.Sockets[r.Inode] = fd
	}
	if err = e.Apply(); fdpass.Denied(err) {
		return false, nil // before it has changed anything
	}
	return err == nil, err
}

// takeOut takes the entries out of their epoll sets.
func (tr trade) takeOut(f *remote.Frozen, pid int, entries []epollset.Entry) error {
	var stale []epollset.Entry
	for _, e := range entries {
		_, err := f.Call(abi.EpollCtl, uintptr(e.Set), unix.EPOLL_CTL_DEL, uintptr(e.Target), 0)
		switch err {
		case nil:
		case unix.ENOENT, unix.EBADF:
			// The number was closed, maybe used again, and the socket is open at another one, or in another
			// process: the entry stays then, and wakes the program (epoll(7), "Will closing a file descriptor ...").
			stale = append(stale, e)
		default:
			return fmt.Errorf("cannot take descriptor %d out of epoll set %d: %w", e.Target, e.Set, err)
		}
	}
	if len(stale) == 0 || tr.stale == nil {
		return nil
	}
	return tr.stale(f, pid, stale)
}

// swapRemotely makes the frozen process give up the sockets at these descriptors: it knocks, and the knock is answered
// by planting all that take their places.
func (t *Tracker) swapRemotely(tr trade, f *remote.Frozen, pid int, list []held) error {
	if len(list) == 0 {
		return nil
	}
	var failed error
	_, err := t.knocks.knock(f, func(_ int, r *notify.Request) notify.Reply {
		failed = t.plantAll(tr, r, list)
		return notify.Return(0)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("cannot swap descriptors of process %d: %w", pid, err)
	}
	for _, h := range list {
		if now, _, _ := proc.DescriptorSocket(pid, h.fd); now == h.inode {
			return fmt.Errorf("cannot swap descriptor %d of process %d: the socket is still there", h.fd, pid)
		}
	}
	return nil
}

// plantAll plants what comes at the descriptors of the caller.
func (t *Tracker) plantAll(tr trade, r *notify.Request, list []held) error {
	for _, h := range list {
		fd, ok := tr.incoming(h.inode)
		if !ok {
			return remote.ErrGone
		}
		if err := r.Plant(fd, h.fd, h.cloexec); err != nil {
			return err
		}
		t.log.Debug("socket exchanged", slog.Int("generation", t.generation), slog.Int("thread", r.TID), slog.Int("descriptor", h.fd))
	}
	return nil
}

// gateTrade is the gate's: placeholders come, and gated sockets go.
func (t *Tracker) gateTrade(g *gate) trade {
	return trade{
		incoming: func(inode uint64) (int, bool) {
			d := g.placeholderOf(inode)
			if d == nil {
				return -1, false
			}
			return d.fd, true
		},
		outgoing: func(inode uint64) (int, bool) { return g.socket(inode).copy() },
		stale: func(f *remote.Frozen, pid int, entries []epollset.Entry) error {
			return t.silence(g, entries, t.pids(), t.copyOfFrozen(f, pid))
		},
	}
}

// holdings lists the gated sockets among descriptors of a frozen process that which picks.
func (g *gate) holdings(pid int, descriptors []proc.Descriptor, which func(s *Socket, d proc.Descriptor) bool) ([]held, error) {
	return holdings(pid, descriptors, func(inode uint64, d proc.Descriptor) bool {
		s := g.socket(inode)
		return s != nil && which(s, d)
	})
}

// holdings lists the sockets among descriptors of a frozen process that which picks.
func holdings(pid int, descriptors []proc.Descriptor, which func(inode uint64, d proc.Descriptor) bool) ([]held, error) {
	var list []held
	for _, d := range descriptors {
		inode, ok := proc.SocketInode(d.Link)
		if !ok || !which(inode, d) {
			continue
		}
		info, err := proc.ReadFDInfo(pid, d.Number)
		if err != nil {
			return nil, err
		}
		list = append(list, held{fd: d.Number, inode: inode, cloexec: info.CloseOnExec()})
	}
	return list, nil
}
