package sockets

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"huptime/internal/abi"
	"huptime/internal/proc"
	"huptime/internal/remote"
	"huptime/notify"
)

// held is a gated socket at a descriptor of a frozen process.
type held struct {
	fd      int
	inode   uint64
	cloexec bool
}

// manyEntries is from how many entries in epoll sets on it is quicker to change them from outside, for which a thread is made, than by
// two remote calls each.
const manyEntries = 16

// exchange puts dummies in place of gated sockets of a frozen process, and into its epoll sets, in which the sockets have these entries.
func (t *Tracker) exchange(g *gate, f *remote.Frozen, pid int, entries []registration, list []held) error {
	swapped := make(map[int]bool, len(list))
	for _, h := range list {
		swapped[h.fd] = true
	}
	edited, err := t.editEntries(g, entries, swapped)
	if err != nil {
		return err
	}
	if !edited {
		if err := t.takeOut(g, f, pid, entries); err != nil {
			return err
		}
	}
	if err := swapRemotely(g, f, pid, list); err != nil || edited {
		return err
	}
	return t.reregister(f, entries, swapped)
}

// editEntries replaces the sockets in the entries by their dummies, or takes them out where they are not to be swapped. It does
// nothing where that is better done, or can only be done, by remote calls.
func (t *Tracker) editEntries(g *gate, entries []registration, swapped map[int]bool) (done bool, err error) {
	if len(entries) < manyEntries {
		return false, nil
	}
	e := edit{entries: entries, sockets: make(map[uint64]int), successors: make(map[registration]int), remove: true, copyOf: duplicateOf}
	defer func() {
		for _, fd := range e.sockets {
			unix.Close(fd)
		}
	}()
	for _, r := range entries {
		if swapped[r.target] {
			d := g.dummyOf(r.inode)
			if d == nil {
				return false, remote.ErrGone
			}
			e.successors[r] = d.fd
		}
		if _, ok := e.sockets[r.inode]; ok {
			continue
		}
		fd, ok := g.socket(r.inode).copy()
		if !ok {
			return false, nil // the supervisor has given its own up
		}
		e.sockets[r.inode] = fd
	}
	if err = e.do(); denied(err) {
		return false, nil // before it has changed anything
	}
	return err == nil, err
}

// swapRemotely makes the frozen process give up the gated sockets at these descriptors, by one call of listen. The listener answers it by
// planting all the dummies, see Tracker.listen; so it does not matter that a datagram socket can't be listened on.
func swapRemotely(g *gate, f *remote.Frozen, pid int, list []held) error {
	if len(list) == 0 {
		return nil
	}
	g.mu.Lock()
	g.exchanges[pid] = list[1:]
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.exchanges, pid)
	}()
	// Should it run after all, then this is the depth that does no harm.
	const deepest = ^uintptr(0)
	if _, err := f.Call(abi.Listen, uintptr(list[0].fd), deepest); err != nil {
		return fmt.Errorf("cannot swap descriptor %d of process %d: %w", list[0].fd, pid, err)
	}
	for _, h := range list {
		if now, _, _ := proc.DescriptorSocket(pid, h.fd); now == h.inode {
			return fmt.Errorf("cannot swap descriptor %d of process %d: the listening socket is still there", h.fd, pid)
		}
	}
	return nil
}

// exchanged plants the dummies for what else the caller, which is frozen, is to give up. The caller has called listen for that.
func (t *Tracker) exchanged(g *gate, r *notify.Request) {
	g.mu.Lock()
	none := len(g.exchanges) == 0
	g.mu.Unlock()
	if none {
		return
	}
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return // gone
	}
	g.mu.Lock()
	list := g.exchanges[pid]
	g.mu.Unlock()
	for _, h := range list {
		d := g.dummyOf(h.inode)
		if d == nil {
			return // it is over
		}
		if err := r.Plant(d.fd, h.fd, h.cloexec); err != nil {
			t.cannot(r, err)
			return // who has asked for it sees what is left
		}
		t.log.Debug("listening socket swapped for a dummy", slog.Int("generation", t.generation), slog.Int("thread", r.TID), slog.Int("descriptor", h.fd))
	}
}

// holdings lists the gated sockets among descriptors of a frozen process that which picks.
func (g *gate) holdings(pid int, descriptors []proc.Descriptor, which func(s *Socket, d proc.Descriptor) bool) ([]held, error) {
	var list []held
	for _, d := range descriptors {
		inode, ok := proc.SocketInode(d.Link)
		if !ok {
			continue
		}
		if s := g.socket(inode); s == nil || !which(s, d) {
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
