package sockets

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/waitstate"
)

// comeByLimit is how long Ungate waits for threads that were told to come by. They get their socket back also later.
const comeByLimit = 20 * time.Millisecond

// phantomLimit bounds how long the listener waits for a phantom that it accepts itself.
const phantomLimit = 100 * time.Millisecond

// replaceAtAccept gives back what was swapped at a notified accept (level connections). There too the socket can only
// be planted: so who waits in accept on a placeholder is made to ask again, and who waits to be told of a client is told: by
// a connection to the placeholder.
func (t *Tracker) replaceAtAccept(ctx context.Context, b *wayBack) error {
	inodes := b.inodes(func(d *placeholder) bool { return d.kind != unix.SOCK_DGRAM })
	if len(inodes) == 0 {
		return nil
	}
	waiting := t.waiters(ctx, func(inode uint64) bool { _, ok := inodes[inode]; return ok }, true)
	failed := t.asking.restartCalls(ctx, waiting)
	limit := time.Now().Add(comeByLimit)
	repolled := make(map[int]bool)
	for wait := time.Millisecond; ; wait = min(2*wait, 5*time.Millisecond) {
		// Also what was silenced during the last look, by an accept that was being answered when the gate was opened.
		if err := t.restoreSilenced(b, t.pids()); err != nil {
			return err
		}
		holders, _ := proc.Holders(t.pids(), inodes)
		if len(holders) == 0 {
			return failed
		}
		if err := t.callBy(b, holders); err != nil {
			return err
		}
		t.repoll(ctx, holders, repolled)
		if time.Now().After(limit) || !pause(ctx, wait) {
			t.log.Debug("processes get their sockets back when they accept next", slog.Int("generation", t.generation), slog.Any("holders", holders))
			return failed
		}
	}
}

// repoll makes threads that wait in poll or select at a placeholder's number begin anew. Such a call looks at what is at the
// numbers by now, but waits to be woken by what was there when it began (do_poll in fs/select.c). done are threads that
// have done so.
func (t *Tracker) repoll(ctx context.Context, holders map[uint64][]proc.Holder, done map[int]bool) {
	numbers := make(map[int]map[int]bool) // process → descriptors
	for _, list := range holders {
		for _, h := range list {
			if numbers[h.PID] == nil {
				numbers[h.PID] = make(map[int]bool)
			}
			numbers[h.PID][h.FD] = true
		}
	}
	batch := make(map[int][]int)
	for pid, at := range numbers {
		for _, tid := range pollingIn(pid, at) {
			if !done[tid] {
				done[tid] = true
				batch[pid] = append(batch[pid], tid)
			}
		}
		if len(batch) == restartBatch {
			t.asking.interrupt(ctx, batch)
			clear(batch)
		}
	}
	t.asking.interrupt(ctx, batch)
}

// pollingIn lists the threads of a process that wait in poll or select at these numbers.
func pollingIn(pid int, numbers map[int]bool) (polling []int) {
	code, err := proc.ABI(pid)
	if err != nil {
		return nil
	}
	tids, err := proc.Threads(pid)
	if err != nil {
		return nil
	}
	for _, tid := range tids {
		now, err := proc.ReadSyscall(pid, tid)
		if err != nil || now.Running {
			continue
		}
		switch call, _ := waitstate.CallOf(tid, code, now); call {
		case abi.Poll, abi.Ppoll, abi.Select, abi.Pselect6:
			if slices.ContainsFunc(waitstate.On(pid, tid, code), func(fd int) bool { return numbers[fd] }) {
				polling = append(polling, tid)
			}
		}
	}
	return polling
}

// callBy tells those who hold placeholders that a client waits there, once.
func (t *Tracker) callBy(b *wayBack, holders map[uint64][]proc.Holder) error {
	e := epollset.Edit{Restore: true, Sockets: make(map[uint64]int), CopyOf: t.copyOf}
	for inode, list := range holders {
		t.giving.Lock()
		t.mu.Lock()
		r := t.returning[inode]
		first := r != nil && !r.woken
		if first {
			r.woken = true
		}
		t.mu.Unlock()
		t.giving.Unlock()
		d := b.placeholders[inode]
		if first {
			if err := d.phantom(); err != nil {
				return err
			}
		}
		var pids []int
		for _, h := range list {
			pids = append(pids, h.PID)
		}
		for _, entry := range epollset.Entries(pids, map[uint64]struct{}{inode: {}}) {
			// Those that ask already were told by the connection, but for exclusive ones, of which one is.
			if entry.Silenced() || first && entry.Events&unix.EPOLLEXCLUSIVE != 0 {
				e.Entries = append(e.Entries, entry)
				e.Sockets[inode] = d.fd
			}
		}
	}
	return e.Apply()
}

// giveBack plants the preserved sockets in the caller's process in place of the placeholders that it has, if the call is
// about one of these. reply is then what to answer. issuedAnew says that the thread can't have come because of what the
// placeholder has told it.
func (t *Tracker) giveBack(r *notify.Request, issuedAnew bool) (reply notify.Reply, done bool) {
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	all := make(map[uint64]*returning, len(t.returning))
	placeholders := make(map[uint64]struct{}, len(t.returning))
	for inode, ret := range t.returning {
		all[inode], placeholders[inode] = ret, struct{}{}
	}
	t.mu.Unlock()
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return notify.Continue(), true // gone
	}
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil {
		return t.giveBackUnseen(r, all, pid, issuedAnew)
	}
	ret := all[inode]
	if !ok || ret == nil || !r.Valid() {
		return reply, false
	}
	numbers := make(map[int]bool)
	holders, _ := proc.Holders([]int{pid}, placeholders)
	for held, list := range holders {
		if all[held].d.kind == unix.SOCK_DGRAM {
			continue // by remote calls
		}
		for _, h := range list {
			info, err := proc.ReadFDInfo(pid, h.FD)
			if err == nil {
				err = r.Plant(all[held].queue.fd, h.FD, info.CloseOnExec())
			}
			if err != nil {
				t.cannot(r, err)
				continue
			}
			numbers[h.FD] = true
		}
	}
	if err := giveBackEntries(pid, all, placeholders, numbers); err != nil {
		t.cannot(r, err)
	}
	t.log.Debug("listening socket given back", slog.Int("generation", t.generation), slog.String("call", r.Call.String()),
		slog.Int("thread", r.TID), slog.Int("descriptor", r.FD()))
	go func() { // ends by itself: it looks once
		if t.takeTurn(context.Background()) == nil {
			defer t.endTurn()
			t.closeReturned()
		}
	}()
	return t.afterGivingBack(r, ret, issuedAnew), true
}

// afterGivingBack answers the call by which a thread came.
func (t *Tracker) afterGivingBack(r *notify.Request, ret *returning, issuedAnew bool) notify.Reply {
	if issuedAnew || ret.d.nonblock || !ret.woken {
		return notify.Continue() // it looks at the preserved socket
	}
	// It may have been told "readable" by the placeholder, and would wait for the next client, whatever else it has to do.
	reply, err := acceptedPhantom(r, ret.queue.key)
	if err != nil {
		t.log.Debug("no phantom for a blocking accept", slog.Int("thread", r.TID), slog.String("error", err.Error()))
		return notify.Continue()
	}
	return reply
}

// giveBackUnseen is giveBack for a process that can't be looked into: once at each number at which some process was
// given a placeholder.
func (t *Tracker) giveBackUnseen(r *notify.Request, all map[uint64]*returning, pid int, issuedAnew bool) (notify.Reply, bool) {
	at := proc.Holder{PID: pid, FD: r.FD()}
	for _, ret := range all {
		if !ret.d.numbers[r.FD()] || ret.returned[at] {
			continue
		}
		if err := r.Plant(ret.queue.fd, r.FD(), true); err != nil {
			t.cannot(r, err)
			continue
		}
		ret.returned[at] = true
		return t.afterGivingBack(r, ret, issuedAnew), true
	}
	return notify.Reply{}, false
}

// giveBackEntries makes the entries of placeholders in a process's epoll sets such of the preserved sockets, at the numbers
// that were planted. An entry of the preserved socket that was silenced at such a number is the same one; if the placeholder
// has none, then the program has taken it out.
func giveBackEntries(pid int, all map[uint64]*returning, placeholders map[uint64]struct{}, numbers map[int]bool) error {
	e := epollset.Edit{Sockets: make(map[uint64]int), Successors: make(map[epollset.Entry]int), Remove: true, Overrule: true, CopyOf: fdpass.Copy}
	preserved := make(map[uint64]int)
	inodes := make(map[uint64]struct{})
	for _, ret := range all {
		preserved[ret.d.stands] = ret.queue.fd
		inodes[ret.d.stands] = struct{}{}
	}
	kept := make(map[[2]int]bool) // set and number
	for _, entry := range epollset.Entries([]int{pid}, placeholders) {
		if !numbers[entry.Target] {
			continue
		}
		entry.Events = entry.Requested()
		e.Entries = append(e.Entries, entry)
		e.Sockets[entry.Inode] = all[entry.Inode].d.fd
		e.Successors[entry] = all[entry.Inode].queue.fd
		kept[[2]int{entry.Set, entry.Target}] = true
	}
	for _, entry := range epollset.Entries([]int{pid}, inodes) {
		if entry.Silenced() && numbers[entry.Target] && !kept[[2]int{entry.Set, entry.Target}] {
			e.Entries = append(e.Entries, entry)
			e.Sockets[entry.Inode] = preserved[entry.Inode]
		}
	}
	return e.Apply()
}

// acceptedPhantom accepts a phantom for the caller, and puts it where an accept would.
func acceptedPhantom(r *notify.Request, k sockaddr.Key) (notify.Reply, error) {
	d, err := newPlaceholder(k, true)
	if err != nil {
		return notify.Reply{}, err
	}
	defer d.close()
	if err := d.phantom(); err != nil {
		return notify.Reply{}, err
	}
	d.waits(phantomLimit)
	flags := unix.SOCK_CLOEXEC
	if takesFlags(r) {
		flags |= r.Int(3) & unix.SOCK_NONBLOCK
	}
	fd, _, err := unix.Accept4(d.fd, flags)
	if err != nil {
		return notify.Reply{}, err
	}
	defer unix.Close(fd)
	if r.Args[1] != 0 && r.Args[2] != 0 {
		// The least that can be said of where a client comes from: the family (unix sockets have no more), and zeros.
		if err := writePeer(r, uint16(d.family)); err != nil {
			return notify.Reply{}, err
		}
	}
	at, err := r.PlantAnew(fd)
	return notify.Return(int64(at)), err
}
