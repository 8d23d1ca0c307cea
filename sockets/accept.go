package sockets

import (
	"errors"
	"io/fs"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
)

// accept lets the call run. While the generation starts, it is the sign that
// somebody waits on the socket. Once the generation is gated, the descriptor is
// swapped for a placeholder first.
func (t *Tracker) accept(r *notify.Request) notify.Reply {
	t.mu.Lock()
	g, starting, back, flags := t.gate, t.starting, len(t.returning) > 0, len(t.flags) > 0
	// Every accept of a serving generation comes through here: no system call
	// but the answer.
	t.accepting[r.TID] = acceptCall{abi: abi.OfAudit(r.Arch), fd: int32(r.FD())}
	if len(t.accepting) >= maxAccepting {
		t.sweepAccepting()
	}
	t.mu.Unlock()

	issuedAnew := t.asking.answered(r.TID)
	if back {
		if reply, ok := t.giveBack(r, issuedAnew); ok && g == nil { // or it may be gated at once
			return reply
		}
	}
	switch {
	case g != nil:
		t.acceptGated(g, r, issuedAnew)
	case starting, flags:
		if inode, ok := t.nowAccepts(r); ok {
			if reply, ok := t.early(r, inode); ok {
				return reply
			}
		}
	}
	return notify.Continue()
}

// nowAccepts notes who accepts while the generation starts. Of one that may not be looked into it is the number that counts, at which its
// parent has the socket.
func (t *Tracker) nowAccepts(r *notify.Request) (socket uint64, ok bool) {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil && !errors.Is(err, fs.ErrPermission) || err == nil && !ok || !r.Valid() {
		return 0, false
	}
	pid, errTgid := proc.Tgid(r.TID)
	if errTgid != nil {
		return 0, false
	}
	t.mu.Lock()
	if err != nil {
		t.acceptsAt[r.FD()] = struct{}{}
	} else {
		t.nowWaited(inode, pid)
		t.firm[inode] = struct{}{}
	}
	t.mu.Unlock()
	ping(t.changed)
	return inode, err == nil
}

// maxAccepting bounds the record of accepting threads. Servers that start a thread
// for each accept would let it grow for ever.
const maxAccepting = 4096

// sweepAccepting drops threads that are gone. t.mu is held.
func (t *Tracker) sweepAccepting() {
	for tid := range t.accepting {
		if unix.Kill(tid, 0) == unix.ESRCH {
			delete(t.accepting, tid)
		}
	}
}

// acceptGated swaps the descriptor for a placeholder where it is a gated socket. The
// call then runs on what is there: a non-blocking one gets EAGAIN, a blocking one a phantom.
func (t *Tracker) acceptGated(g *gate, r *notify.Request, issuedAnew bool) {
	t.giving.Lock() // or the gate might be opened meanwhile
	defer t.giving.Unlock()
	d, nonblock := t.swap(g, r)
	if d == nil && issuedAnew {
		// Another thread of the process came first, and swapped the descriptor for all.
		d, nonblock = g.placeholderThere(r)
	}
	if d == nil {
		return
	}
	t.noteSwapped(r)
	if nonblock || t.onlyAccepts(d.stands) {
		return
	}
	if err := d.phantom(); err != nil {
		t.log.Debug("no phantom for a blocking accept", slog.Int("thread", r.TID), slog.String("error", err.Error()))
	}
}

// noteSwapped notes that an accept runs on what was planted for it.
func (t *Tracker) noteSwapped(r *notify.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	call := t.accepting[r.TID]
	call.swapped = true
	t.accepting[r.TID] = call
}

// swap plants the placeholder in place of the descriptor that the call is about, if that is a
// gated socket; else it returns nil.
func (t *Tracker) swap(g *gate, r *notify.Request) (d *placeholder, nonblock bool) {
	d = g.placeholderAt(r)
	if d == nil {
		return nil, false
	}
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil {
		d.numbers[r.FD()] = true
		// It can't be looked into. Close-on-exec is what servers set, and a
		// program that the service starts has no use for a placeholder.
		info.Flags = unix.O_CLOEXEC
		if d.nonblock {
			info.Flags |= unix.O_NONBLOCK
		}
	}
	others := t.otherWays(r, d)
	defer others.close()
	if err := r.Plant(d.fd, r.FD(), info.CloseOnExec()); err != nil {
		t.cannot(r, err)
		return nil, false
	}
	others.shut()
	t.log.Debug("listening socket swapped for a placeholder", slog.Int("generation", t.generation),
		slog.String("call", r.Call.String()), slog.Int("thread", r.TID), slog.Int("descriptor", r.FD()))
	return d, info.Flags&unix.O_NONBLOCK != 0
}
