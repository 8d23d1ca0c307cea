package sockets

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
)

// exchangeFor replaces sockets of the generation, given by their inodes, by others of which the supervisor has
// duplicates: a socket of its own that a starting generation was let have, by the preserved one, once it is ready.
// Every descriptor of every process and every entry in an epoll set follows, and who waits looks anew. What waits in
// the queue of a socket that goes is lost with it, so it has to be one that clients did not come to. From then on the
// generation listens on what came.
//
// At level connections a descriptor is replaced at the next accept. Until then epoll tells the program of clients of
// the socket that comes, but epoll_ctl at that number does not find the entry. A thread that waits there in poll or
// select would never be told: the error matches ErrOpaque then, and nothing was changed.
//
// The duplicates stay the caller's. A socket must have none of its kind that goes twice.
func (t *Tracker) exchangeFor(ctx context.Context, pairs map[uint64]*Socket) error {
	if len(pairs) == 0 {
		return nil
	}
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer t.endTurn()
	x := &substitution{queues: make(map[uint64]queue), inodes: make(map[uint64]struct{})}
	defer x.close()
	for inode, s := range pairs {
		q, ok := queueOf(s)
		if !ok {
			return fmt.Errorf("nobody has %s any more", s)
		}
		x.queues[inode], x.inodes[inode] = q, struct{}{}
	}
	// Remote calls may be permitted at either level, and serve every way to wait.
	err := t.exchangeAll(ctx, x.trade(), x.inodes, nil)
	if err != nil && t.level != notify.LevelListeners {
		err = t.substituteAtAccept(ctx, x, pairs)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode, s := range pairs {
		if order, ok := t.listening[inode]; ok {
			t.listening[s.Inode] = order
		}
		t.evidence.move(inode, s.Inode)
		if _, ok := t.datagrams[inode]; ok {
			t.datagrams[s.Inode] = struct{}{}
		}
		delete(t.listening, inode)
		delete(t.datagrams, inode)
	}
	return nil
}

// substitution is what comes, by the inodes of what goes.
type substitution struct {
	queues map[uint64]queue // owned
	inodes map[uint64]struct{}
}

func (x *substitution) close() {
	for _, q := range x.queues {
		q.close()
	}
}

func (x *substitution) trade() trade {
	return trade{
		incoming: func(inode uint64) (int, bool) { return x.queues[inode].fd, true },
		outgoing: func(uint64) (int, bool) { return -1, false },
	}
}

// substituteAtAccept is exchangeFor at level connections.
func (t *Tracker) substituteAtAccept(ctx context.Context, x *substitution, pairs map[uint64]*Socket) error {
	pids := t.pids()
	holders, opaque := proc.Holders(pids, x.inodes)
	if len(opaque) > 0 {
		return fmt.Errorf("%w: processes %v may not be looked into", ErrOpaque, opaque)
	}
	if polls := polling(holders); len(polls) > 0 {
		return fmt.Errorf("%w: threads %v wait in poll or select", ErrOpaque, polls)
	}
	gone := make(map[uint64]*returning, len(pairs))
	for inode, s := range pairs {
		own, err := firstCopy(holders[inode], inode, fdpass.Copy)
		if own < 0 {
			if err == nil {
				continue // nobody has it any more
			}
			return err
		}
		q := x.queues[inode]
		other, ok := q.copy()
		if !ok {
			unix.Close(own)
			return errors.New("cannot copy a socket")
		}
		gone[inode] = &returning{own: true, queue: other, returned: make(map[proc.Holder]bool),
			d: &placeholder{fd: own, inode: inode, stands: s.Inode, kind: s.Key.Type, family: int(s.Key.Address.Family), nonblock: true, file: -1}}
	}
	// From here on an accept on what goes gets what comes.
	t.giving.Lock()
	e := epollset.Edit{Sockets: make(map[uint64]int), Successors: make(map[epollset.Entry]int), Remove: true, Overrule: true, CopyOf: fdpass.Copy}
	t.mu.Lock()
	for inode, r := range gone {
		t.returning[inode] = r
		e.Sockets[inode] = r.d.fd
	}
	t.mu.Unlock()
	for _, entry := range epollset.Entries(pids, x.inodes) {
		if gone[entry.Inode] != nil {
			e.Entries = append(e.Entries, entry)
			e.Successors[entry] = gone[entry.Inode].queue.fd
		}
	}
	err := e.Apply()
	t.giving.Unlock()
	waiting := t.waiters(ctx, func(inode uint64) bool { return gone[inode] != nil }, false)
	return errors.Join(err, t.asking.restartCalls(ctx, waiting))
}

// polling lists threads that wait for sockets at these descriptors in poll or select.
func polling(holders map[uint64][]proc.Holder) (tids []int) {
	at := make(map[int]map[int]bool) // process → descriptors
	for _, list := range holders {
		for _, h := range list {
			if at[h.PID] == nil {
				at[h.PID] = make(map[int]bool)
			}
			at[h.PID][h.FD] = true
		}
	}
	for pid, numbers := range at {
		tids = append(tids, pollingIn(pid, numbers)...)
	}
	return tids
}
