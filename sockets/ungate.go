package sockets

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
)

// ErrUngated ends AwaitDrained where the generation accepts again.
var ErrUngated = errors.New("the generation accepts again")

// Ungate undoes Gate: the generation accepts again on the sockets that it was gated on. Of those the supervisor has to
// have its duplicates, in sockets, which stay the caller's, or in those that Gate was given. What the generation was
// never made to give up it simply keeps; so it does no harm where a gate was not finished, or could not be (ErrOpaque).
//
// Each descriptor that has a placeholder gets the preserved socket back, and with it each entry in an epoll set, with the
// events and the word that the program has given it, be it before the gate or meanwhile. Threads that wait are made to
// look anew, and find the clients that wait. Processes that are gone are no error. A process at level connections that
// does not wait for clients at this moment gets its socket back at its next accept; the supervisor keeps a duplicate
// until then.
//
// It must not be waited for by the goroutine that runs the function which AwaitDrained was given. While another
// generation has the sockets and is on its way out, run WakeAt: it may have been told of a client that it does not
// take.
func (t *Tracker) Ungate(ctx context.Context, sockets []*Socket) error {
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer t.endTurn()
	var failed error
	for _, s := range sockets {
		failed = errors.Join(failed, s.flagRestored()) // before anybody gets it back
	}
	failed = errors.Join(failed, t.open(sockets))
	b := t.wayBack()
	if len(b.placeholders) == 0 {
		return failed
	}
	defer b.close()
	failed = errors.Join(failed, t.replaceRemotely(ctx, b))
	if t.level != notify.LevelListeners {
		failed = errors.Join(failed, t.replaceAtAccept(ctx, b))
	}
	t.closeReturned()
	return failed
}

// takeTurn waits until nobody gates, ungates or stops the generation. The caller must call endTurn.
func (t *Tracker) takeTurn(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *Tracker) endTurn() { <-t.turn }

// returning is a placeholder whose place a preserved socket is to have back.
type returning struct {
	d     *placeholder
	queue queue // of the preserved socket; owned
	own   bool  // it is no placeholder, but a socket of the generation's own: see exchangeFor
	woken bool  // a connection was put into the placeholder's queue, which tells those who wait there to come by
	// returned are processes that can't be looked into and have the preserved socket back, at these numbers.
	returned map[proc.Holder]bool
}

func (r *returning) close() {
	r.d.close()
	r.queue.close()
}

// open opens the gate: from here on what comes by on a placeholder gets the preserved socket back.
func (t *Tracker) open(sockets []*Socket) (failed error) {
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.gate
	if g == nil {
		return nil
	}
	t.gate = nil
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	clear(g.numbers)
	given := make(map[uint64]*Socket, len(sockets))
	for _, s := range sockets {
		given[s.Inode] = s
	}
	for inode, d := range g.placeholders {
		q, ok := queueOf(given[inode])
		if !ok {
			q, ok = queueOf(g.sockets[inode])
		}
		if !ok {
			failed = errors.Join(failed, errors.New("nobody has "+g.sockets[inode].String()+" any more"))
			d.close()
			continue
		}
		t.returning[d.inode] = &returning{d: d, queue: q, returned: make(map[proc.Holder]bool)}
	}
	clear(g.placeholders)
	return failed
}

// gatedAgain returns the placeholder of a socket that some process has still from an earlier gate, or nil. It is the
// caller's.
func (t *Tracker) gatedAgain(inode uint64) *placeholder {
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, r := range t.returning {
		if r.d.stands == inode && !r.own {
			delete(t.returning, key)
			r.queue.close()
			return r.d
		}
	}
	return nil
}

// closeReturned closes the placeholders, once no process has any. It is the caller's turn.
func (t *Tracker) closeReturned() {
	t.mu.Lock()
	placeholders := make(map[uint64]struct{}, len(t.returning))
	for inode := range t.returning {
		placeholders[inode] = struct{}{}
	}
	t.mu.Unlock()
	if len(placeholders) == 0 {
		return
	}
	pids := t.pids()
	holders, _ := proc.Holders(pids, placeholders)
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode := range placeholders {
		r := t.returning[inode]
		if r == nil || len(holders[inode]) > 0 || r.d.unseen() && len(pids) > 0 {
			continue
		}
		r.close()
		delete(t.returning, inode)
	}
}

// wayBack is one call of Ungate: copies of what goes and of what comes, by the inodes of the placeholders.
type wayBack struct {
	placeholders map[uint64]*placeholder // with descriptors of its own; owned
	queues       []queue                 // of the preserved sockets; owned
	at           map[uint64]int          // placeholder → index of its queue
	preserved    map[uint64]int          // preserved socket → index of its queue
}

func (t *Tracker) wayBack() *wayBack {
	t.giving.Lock()
	defer t.giving.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &wayBack{placeholders: make(map[uint64]*placeholder), at: make(map[uint64]int), preserved: make(map[uint64]int)}
	for inode, r := range t.returning {
		if r.own {
			continue
		}
		d, err := r.d.copy()
		if err != nil {
			continue
		}
		q, ok := r.queue.copy()
		if !ok {
			d.close()
			continue
		}
		b.at[inode], b.preserved[d.stands] = len(b.queues), len(b.queues)
		b.placeholders[inode] = d
		b.queues = append(b.queues, q)
	}
	return b
}

func (b *wayBack) close() {
	for _, d := range b.placeholders {
		d.close()
	}
	for i := range b.queues {
		b.queues[i].close()
	}
}

// inodes are the placeholders that which picks.
func (b *wayBack) inodes(which func(*placeholder) bool) map[uint64]struct{} {
	set := make(map[uint64]struct{}, len(b.placeholders))
	for inode, d := range b.placeholders {
		if which(d) {
			set[inode] = struct{}{}
		}
	}
	return set
}

func (b *wayBack) trade() trade {
	return trade{
		incoming: func(inode uint64) (int, bool) {
			i, ok := b.at[inode]
			if !ok {
				return -1, false
			}
			return b.queues[i].fd, true
		},
		outgoing: func(inode uint64) (int, bool) {
			fd, err := unix.FcntlInt(uintptr(b.placeholders[inode].fd), unix.F_DUPFD_CLOEXEC, 0)
			return fd, err == nil
		},
	}
}

// replaceRemotely gives back what was taken by remote calls: everything at level listeners, and datagram sockets at
// every level. It is over when a look finds no placeholder any more: a process may have forked meanwhile.
func (t *Tracker) replaceRemotely(ctx context.Context, b *wayBack) error {
	inodes := b.inodes(func(d *placeholder) bool { return t.level == notify.LevelListeners || d.kind == unix.SOCK_DGRAM })
	failed := t.exchangeAll(ctx, b.trade(), inodes, func(f *remote.Frozen, list []held) {
		if _, busy := inAccept(f); !busy {
			return
		}
		// A thread that was told "readable", because of a phantom, may be on its way into a blocking accept.
		for _, h := range list {
			if d := b.placeholders[h.inode]; !d.nonblock && d.kind != unix.SOCK_DGRAM && d.family == int(b.queues[b.at[h.inode]].key.Address.Family) && d.waits(0) {
				b.queues[b.at[h.inode]].connect()
			}
		}
	})
	return errors.Join(failed, t.restoreSilenced(b, t.pids()))
}

// restoreSilenced gives entries of epoll sets back what the program had asked for, where the preserved socket has
// stayed.
func (t *Tracker) restoreSilenced(b *wayBack, pids []int) error {
	inodes := make(map[uint64]struct{}, len(b.preserved))
	for inode := range b.preserved {
		inodes[inode] = struct{}{}
	}
	e := epollset.Edit{Restore: true, Sockets: make(map[uint64]int), CopyOf: t.copyOf}
	if t.level != notify.LevelListeners {
		// An accept that is answered meanwhile changes the same entries.
		t.giving.Lock()
		defer t.giving.Unlock()
		e.CopyOf = fdpass.Copy
	}
	for _, r := range epollset.Entries(pids, inodes) {
		if !r.Silenced() {
			continue
		}
		if now, ok, err := proc.DescriptorSocket(r.PID, r.Target); err == nil && ok && b.placeholders[now] != nil {
			continue // what is asked for is asked of the placeholder
		}
		e.Entries = append(e.Entries, r)
		e.Sockets[r.Inode] = b.queues[b.preserved[r.Inode]].fd
	}
	return e.Apply()
}
