package sockets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
)

// gate is what makes a generation stop accepting on some of its sockets.
type gate struct {
	mu           sync.Mutex
	sockets      map[uint64]*Socket // by inode
	placeholders placeholders
	// numbers at which processes that can be looked into hold a gated socket; for
	// those that can't.
	numbers map[int]*placeholder
	visited map[visitor]struct{}
	over    bool // it was opened: see Ungate
	// turns are what the generation is gated on later, see plan; planned tells that they were made.
	turns   [][]*Socket
	planned bool
}

// visitor is a process that was visited. Another may get its PID later, in a drain that takes long.
type visitor struct {
	pid   int
	start uint64
}

func newGate() *gate {
	return &gate{
		sockets:      make(map[uint64]*Socket),
		placeholders: make(placeholders),
		numbers:      make(map[int]*placeholder),
		visited:      make(map[visitor]struct{}),
	}
}

// add closes the gate for more sockets and tells how many were new: for all of them, or on an error for none. have are placeholders that are there already; it takes
// those that it needs.
func (g *gate) add(sockets []*Socket, have placeholders) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fresh := slices.DeleteFunc(slices.Clone(sockets), func(s *Socket) bool { return g.sockets[s.Inode] != nil })
	made, err := placeholdersFor(fresh, have)
	if err != nil {
		return 0, err
	}
	for _, s := range fresh {
		g.sockets[s.Inode], g.placeholders[s.Inode] = s, made[s.Inode]
	}
	if len(fresh) > 0 {
		clear(g.visited) // whoever was visited may wait on the new ones
	}
	return len(fresh), nil
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.placeholders.close()
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
		if s.Key.IsDatagram() == datagram {
			set[inode] = struct{}{}
		}
	}
	return set
}

// placeholderOf returns the placeholder that stands for a gated socket. There is none any more once the generation is over, which can be at any moment, also
// while a process of it is frozen.
func (g *gate) placeholderOf(inode uint64) *placeholder {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.placeholders[inode]
}

func (g *gate) socket(inode uint64) *Socket {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sockets[inode]
}

func (g *gate) has(inode uint64) bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sockets[inode] != nil
}

// placeholderThere returns the placeholder that the descriptor of the call is already, or nil.
func (g *gate) placeholderThere(r *notify.Request) (d *placeholder, nonblock bool) {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok {
		return nil, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.placeholders {
		if d.inode == inode {
			return d, d.nonblock
		}
	}
	return nil, false
}

// placeholderAt returns what must take the place of the descriptor that the caller
// accepts on, or nil where that is not a gated socket.
func (g *gate) placeholderAt(r *notify.Request) *placeholder {
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
	return g.placeholders[inode]
}

// Gate makes the generation stop accepting on these sockets, of which the
// supervisor must still hold its duplicates. What it has accepted goes on. It
// returns when no thread of it waits on them any more, or with an error that says what may
// still accept. Called again it gates more sockets.
func (t *Tracker) Gate(ctx context.Context, sockets []*Socket) error {
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer t.endTurn()
	t.mu.Lock()
	if t.gate == nil {
		t.gate = newGate()
	}
	g := t.gate
	t.mu.Unlock()
	return t.gateMore(ctx, g, sockets)
}

// gateMore gates more sockets. It is the caller's turn.
func (t *Tracker) gateMore(ctx context.Context, g *gate, sockets []*Socket) error {
	t.closeReturned()
	sockets = t.inTurn(g, sockets)
	// From here on every new accept finds the gate. What is left is what waits already.
	have := t.takePrepared()
	if have == nil {
		have = make(placeholders)
	}
	t.takeReturning(sockets, have)
	_, err := g.add(sockets, have)
	t.keepPrepared(have)
	if err != nil {
		return err
	}
	if g.empty() {
		return nil // the clients go elsewhere, see Switch: no process needs to be looked into
	}
	err = errors.Join(t.visit(ctx, g), settleFlags(sockets))
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, t.gateRest(ctx, g))
	}
	return err
}

// gateLate is Gate during a drain, which ends with the gate.
func (t *Tracker) gateLate(ctx context.Context, g *gate, sockets []*Socket) error {
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer t.endTurn()
	if g.opened() {
		return ErrUngated
	}
	return t.gateMore(ctx, g, sockets)
}

// opened tells whether it was opened again.
func (g *gate) opened() bool {
	if g == nil {
		return true // before it was even looked at
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.over
}

// unvisited picks those that were not visited yet, and notes that they are.
func (g *gate) unvisited(pids []int) (fresh []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, pid := range pids {
		st, err := proc.ReadStat(pid)
		if err != nil {
			continue // gone
		}
		v := visitor{pid, st.StartTime}
		if _, ok := g.visited[v]; !ok {
			g.visited[v] = struct{}{}
			fresh = append(fresh, pid)
		}
	}
	return fresh
}

// visit gates what waits in processes that were not visited yet: all of them at first,
// those that were born since, later.
func (t *Tracker) visit(ctx context.Context, g *gate) error {
	fresh := g.unvisited(t.pids())
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
			g.numbers[h.FD] = g.placeholders[inode]
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
	boxed := t.sandboxed(fresh)
	err := t.silence(g, epollset.Entries(fresh, inodes), fresh, t.copyOf)
	if errors.Is(err, remote.ErrSandboxed) {
		// Its epoll sets can't be reached: it would be woken up in vain, in place of the new generation. So it must end.
		err = t.cannotGate(boxed, err)
	}
	return errors.Join(unseen, ringed, err, t.asking.restartCalls(ctx, t.waiters(ctx, g.has, false)))
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
