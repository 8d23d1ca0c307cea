package sockets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
	"huptime/notify"
)

// gate is what makes a generation stop accepting on some of its sockets.
type gate struct {
	mu      sync.Mutex
	sockets map[uint64]*Socket // by inode
	dummies map[uint64]*dummy  // by inode of the socket that it stands for
	// numbers at which processes that can be looked into hold a gated socket; for
	// those that can't.
	numbers map[int]*dummy
	// asked are the threads that have to issue their accept anew and have not
	// done so yet.
	asked   map[int]*waiter
	again   chan struct{} // gets a value when one has
	visited map[int]struct{}
	// exchanges are what frozen processes are to give up, beside the descriptor by which they are made to ask for it.
	exchanges map[int][]held
	// turns are what the generation is gated on later, see plan; planned tells that they were made.
	turns   [][]*Socket
	planned bool
}

func newGate() *gate {
	return &gate{
		sockets: make(map[uint64]*Socket),
		dummies: make(map[uint64]*dummy),
		numbers: make(map[int]*dummy),
		asked:   make(map[int]*waiter),
		again:   make(chan struct{}, 1),
		visited: make(map[int]struct{}),

		exchanges: make(map[int][]held),
	}
}

// add closes the gate for more sockets and tells how many were new.
func (g *gate) add(sockets []*Socket) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	added := 0
	for _, s := range sockets {
		if _, known := g.sockets[s.Inode]; known {
			continue
		}
		d, err := newDummy(s.Key, s.NonBlock)
		if err != nil {
			return added, err
		}
		d.stands = s.Inode
		if s.Key.datagram() {
			d.limitLike(s)
		}
		g.sockets[s.Inode], g.dummies[s.Inode] = s, d
		added++
	}
	if added > 0 {
		clear(g.visited) // whoever was visited may wait on the new ones
	}
	return added, nil
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.dummies {
		d.close()
	}
	clear(g.dummies)
}

// streams are the gated sockets that have connections, by inode.
func (g *gate) streams() map[uint64]struct{} { return g.inodes(false) }

// datagrams are the gated datagram sockets, by inode.
func (g *gate) datagrams() map[uint64]struct{} { return g.inodes(true) }

func (g *gate) inodes(datagram bool) map[uint64]struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	set := make(map[uint64]struct{}, len(g.sockets))
	for inode, s := range g.sockets {
		if s.Key.datagram() == datagram {
			set[inode] = struct{}{}
		}
	}
	return set
}

// dummyOf returns the dummy that stands for a gated socket. There is none any more once the generation is over, which can be at any moment, also
// while a process of it is frozen.
func (g *gate) dummyOf(inode uint64) *dummy {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dummies[inode]
}

func (g *gate) socket(inode uint64) *Socket {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sockets[inode]
}

func (g *gate) has(inode uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sockets[inode] != nil
}

// dummyThere returns the dummy that the descriptor of the call is already, or nil.
func (g *gate) dummyThere(r *notify.Request) (d *dummy, nonblock bool) {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok {
		return nil, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.dummies {
		if d.inode == inode {
			return d, d.nonblock
		}
	}
	return nil, false
}

// answered notes that a thread has issued an accept after the gate was set, and
// tells whether it was made to.
func (g *gate) answered(tid int) (reasked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.asked[tid]
	if w == nil {
		return false
	}
	delete(g.asked, tid)
	ping(g.again)
	return w.stopped
}

// stopped notes that the thread has been taken out of its system call.
func (g *gate) stopped(tid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.asked[tid]; w != nil {
		w.stopped = true
	}
}

// dummyAt returns what must take the place of the descriptor that the caller
// accepts on, or nil where that is not a gated socket.
func (g *gate) dummyAt(r *notify.Request) *dummy {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		// Opaque. A worker has its listening sockets at the numbers at which its
		// master has them, because it got them by fork.
		return g.numbers[r.FD()]
	}
	if !ok || !r.Valid() {
		return nil
	}
	return g.dummies[inode]
}

// Gate makes the generation stop accepting on these sockets, of which the
// supervisor must still hold its duplicates. What it has accepted goes on. It
// returns when no thread of it waits on them any more, or with an error that says what may
// still accept. Called again it gates more sockets.
func (t *Tracker) Gate(ctx context.Context, sockets []*Socket) error {
	t.mu.Lock()
	if t.gate == nil {
		t.gate = newGate()
	}
	g := t.gate
	t.mu.Unlock()
	return t.gateInTurn(ctx, g, sockets)
}

// visit gates what waits in processes that were not visited yet: all of them at first,
// those that were born since, later.
func (t *Tracker) visit(ctx context.Context, g *gate) error {
	var fresh []int
	g.mu.Lock()
	for _, pid := range t.pids() {
		if _, ok := g.visited[pid]; !ok {
			g.visited[pid] = struct{}{}
			fresh = append(fresh, pid)
		}
	}
	g.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	// Connections first: what waits for datagrams may have to be waited for.
	defer t.sealDatagrams(ctx, g, fresh)
	if t.level == notify.LevelListeners {
		return t.seal(ctx, g, fresh)
	}
	inodes := g.streams()
	holders, opaque := proc.Holders(fresh, inodes)
	g.mu.Lock()
	for inode, list := range holders {
		for _, h := range list {
			g.numbers[h.FD] = g.dummies[inode]
		}
	}
	g.mu.Unlock()
	var unseen error
	if len(opaque) > 0 {
		// They are gated as well, at their next accept. But epoll goes on to wake them up, in vain, and with
		// EPOLLEXCLUSIVE in place of the new generation: its clients would wait. So they must end.
		t.knocks.opaqueOnce.Do(func() {
			t.log.Warn("processes may not be looked into: they get their stop signal as soon as they are gated; give huptime CAP_SYS_PTRACE",
				slog.Int("generation", t.generation), slog.Any("pids", opaque))
		})
		unseen = fmt.Errorf("%w: processes %v may not be looked into", ErrOpaque, opaque)
	}
	ringed := t.urings(holders)
	err := t.silence(g, registrations(fresh, inodes), fresh, t.copyOf)
	return errors.Join(unseen, ringed, err, t.reask(ctx, g))
}

// urings is an error that matches ErrOpaque where one who holds the sockets has an io_uring.
func (t *Tracker) urings(holders map[uint64][]proc.Holder) (failed error) {
	seen := make(map[int]bool)
	for _, list := range holders {
		for _, h := range list {
			if seen[h.PID] {
				continue
			}
			seen[h.PID] = true
			if descriptors, err := proc.Descriptors(h.PID); err == nil && hasURing(descriptors) {
				failed = errors.Join(failed, t.cannotGate(h.PID, fmt.Errorf("process %d: %w", h.PID, errURing)))
			}
		}
	}
	return failed
}

// silence silences entries of epoll sets, for which it needs the sockets: the supervisor's own copies, and after it has given
// those up, for processes that are visited late, copies of what one of pids holds.
func (t *Tracker) silence(g *gate, entries []registration, pids []int, copyOf func(pid, fd int) (int, error)) error {
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
		e.datagrams = e.datagrams || g.socket(r.inode).Key.datagram()
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
func firstCopy(holders []proc.Holder, inode uint64, copyOf func(pid, fd int) (int, error)) (int, error) {
	var failed error
	for _, h := range holders {
		fd, err := copyOf(h.PID, h.FD)
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
