package sockets

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// A generation may need its own sockets to answer its clients: a front process asks a back process of the same service.
// In exec mode nobody else answers there, so a generation that was gated on all of them at once would wait for itself.
// It is gated in turns: on the sockets that have connections from outside first, on the others one after the other,
// each time when the connections from outside on what is gated are done. Sockets on which it was seen to be its own
// client come last.
//
// What is not gated yet goes on to be served; that costs nobody anything.

// maxTurns is how many sockets have a turn of their own. Of more those alike have one together.
const maxTurns = 8

// lastGateLimit is how long the rest of a generation's sockets may take to be gated whose time to drain is over.
const lastGateLimit = 2 * time.Second

// inTurn returns what is to be gated now of sockets: at the first call in exec mode the first turn, later what has had
// its turn.
func (t *Tracker) inTurn(g *gate, sockets []*Socket) []*Socket {
	t.mu.Lock()
	alone := t.alone
	t.mu.Unlock()
	if !alone {
		return sockets
	}
	g.mu.Lock()
	planned := g.planned
	g.planned = true
	g.mu.Unlock()
	if !planned {
		first, rest := t.plan(sockets)
		g.mu.Lock()
		g.turns = rest
		g.mu.Unlock()
		return first
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(sockets), func(s *Socket) bool {
		return slices.ContainsFunc(g.turns, func(turn []*Socket) bool { return slices.Contains(turn, s) })
	})
}

// nextTurn gates the generation on what is next. It tells whether there was anything.
func (d *drain) nextTurn(ctx context.Context) bool {
	if d.g == nil {
		return false
	}
	d.g.mu.Lock()
	if len(d.g.turns) == 0 || d.g.over {
		d.g.mu.Unlock()
		return false
	}
	turn := d.g.turns[0]
	d.g.turns = d.g.turns[1:]
	d.g.mu.Unlock()
	if err := d.t.gateLate(ctx, d.g, turn); err != nil && ctx.Err() == nil && !d.g.opened() {
		d.t.log.Warn("old generation not gated wholly",
			slog.Int("generation", d.t.generation), slog.String("error", err.Error()))
	}
	d.gatedAddresses()
	d.own = nil
	return true
}

// lastTurns gates the generation on all that is left: its stop signal is next.
func (d *drain) lastTurns(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastGateLimit)
	defer cancel()
	for d.nextTurn(ctx) {
	}
	untilSettled(d.t.pids(), func(int) {})
}

// gateRest gates the generation on all that is left where it was not gated wholly: it can't be waited for then. It is the caller's turn.
func (t *Tracker) gateRest(ctx context.Context, g *gate) error {
	g.mu.Lock()
	turns := g.turns
	g.turns = nil
	g.mu.Unlock()
	if len(turns) == 0 {
		return nil
	}
	return t.gateMore(ctx, g, slices.Concat(turns...))
}

// plan orders sockets by how the generation uses them at this moment.
func (t *Tracker) plan(sockets []*Socket) (first []*Socket, rest [][]*Socket) {
	var streams []*Socket
	for _, s := range sockets {
		if !s.Key.IsDatagram() {
			streams = append(streams, s)
		}
	}
	if len(streams) < 2 {
		return sockets, nil
	}
	used, err := t.usage(streams)
	if err != nil {
		t.log.Debug("cannot tell how sockets are used", slog.Int("generation", t.generation), slog.String("error", err.Error()))
		return sockets, nil
	}
	var later []*Socket
	for _, s := range sockets {
		if s.Key.IsDatagram() || used[s].outside && !used[s].inner {
			first = append(first, s)
		} else {
			later = append(later, s)
		}
	}
	// A service begins with what it builds upon: what was listened on last is the likeliest to be its front.
	slices.Reverse(later)
	rank := func(s *Socket) int {
		switch {
		case used[s].inner:
			return 3
		case s.Key.Address.Family == unix.AF_UNIX:
			return 2
		case s.Key.Address.AddrPort.Addr().Unmap().IsLoopback():
			return 1
		}
		return 0
	}
	slices.SortStableFunc(later, func(a, b *Socket) int { return cmp.Compare(rank(a), rank(b)) })
	for i, s := range later {
		if len(later) > maxTurns && i > 0 && rank(s) == rank(later[i-1]) {
			rest[len(rest)-1] = append(rest[len(rest)-1], s)
		} else {
			rest = append(rest, []*Socket{s})
		}
	}
	if len(first) == 0 {
		return rest[0], rest[1:]
	}
	return first, rest
}

// use is who has connections on a socket.
type use struct{ outside, inner bool }

func (t *Tracker) usage(streams []*Socket) (map[*Socket]use, error) {
	d, err := t.newDrain(func() []int { return nil })
	if err != nil {
		return nil, err
	}
	defer d.diag.Close()
	for _, s := range streams {
		d.address(s)
	}
	if err := d.survey(); err != nil {
		return nil, err
	}
	used := make(map[*Socket]use)
	queued := make(map[uint64][]*Socket) // the other end of a connection that waits to be accepted → what it waits in
	for _, c := range d.conns {
		_, inner := d.selves[c.Inode]
		_, own := d.own[c.Inode]
		// One that waits to be accepted is as good as accepted.
		waits := c.Inode == 0 && (c.State == sockdiag.TCPEstablished || c.State == sockdiag.TCPCloseWait)
		if !inner && !own && !waits {
			continue
		}
		peer := sockdiag.Peer{}
		if !inner {
			if peer = d.peerOf(c); peer.Inode == 0 && d.isOfHere(c) {
				continue // its client is gone
			}
		}
		for _, s := range streams {
			if !d.madeTo(c, s) {
				continue
			}
			if waits && peer.Inode != 0 {
				queued[uint64(peer.Inode)] = append(queued[uint64(peer.Inode)], s)
				continue
			}
			u := used[s]
			used[s] = use{u.outside || !inner, u.inner || inner}
		}
	}
	peers := make(map[uint64]struct{})
	for inode := range queued {
		peers[inode] = struct{}{}
	}
	held, _ := proc.Holders(t.pids(), peers)
	for inode, list := range queued {
		inner := len(held[inode]) > 0
		for _, s := range list {
			u := used[s]
			used[s] = use{u.outside || !inner, u.inner || inner}
		}
	}
	return used, nil
}

// isOfHere tells whether a connection's client is on this machine, and in this network namespace: it would be found.
func (d *drain) isOfHere(c sockdiag.Connection) bool {
	return c.Family != unix.AF_UNIX && c.Family != unix.AF_VSOCK && c.Remote.IsValid() && d.isLocal(c)
}

// madeTo tells whether a connection was made to the address of a socket, as far as the drain can tell them apart.
func (d *drain) madeTo(c sockdiag.Connection, s *Socket) bool {
	if c.Family == unix.AF_UNIX || s.Key.Address.Family == unix.AF_UNIX {
		return c.Family == s.Key.Address.Family && c.Name == s.Path
	}
	return c.Family != unix.AF_VSOCK && s.Key.Address.Family != unix.AF_VSOCK && c.Local.Port() == s.Key.Address.Port()
}
