package sockets

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// How often a drain is looked at: often while it may end soon, rarely later.
const (
	shortestPoll = 5 * time.Millisecond
	longestPoll  = 200 * time.Millisecond
	// followEach is how often what came up since the gate is looked for, which reads a file for each process of the machine.
	followEach = time.Second
	// closeRuns is how long after the answer to a close the drain looks what it has done.
	closeRuns = time.Millisecond
)

// drain watches the connections that a gated generation has accepted.
type drain struct {
	t     *Tracker
	g     *gate
	diag  *sockdiag.Conn
	newer func() []int // processes of the generations that came after

	ports map[uint16]struct{} // of TCP sockets
	talks map[uint16]struct{} // ports of UDP sockets
	names map[string]struct{} // of unix sockets
	// foreign tells that some of these are of other network namespaces.
	foreign bool
	hosts   map[uint32]struct{}   // ports of vsock sockets
	conns   []sockdiag.Connection // reused from poll to poll
	// own are the connections, by inode, that this generation has, but for those to itself, which are in selves.
	own, selves map[uint32]struct{}
	// between are connections that no process had at the last look, and since when; they are among own. See inTransit.
	between map[uint64]time.Time
	local   map[netip.Addr]struct{} // addresses of this machine; nil until they are asked for

	quiescence quiescence
	began      time.Time
	followed   time.Time // when follow was last called
}

// Outstanding tells how many connections the gated generation has open on its
// gated sockets. newer lists the processes of later generations.
func (t *Tracker) Outstanding(newer func() []int) (int, error) {
	d, err := t.newDrain(newer)
	if err != nil {
		return 0, err
	}
	defer d.diag.Close()
	if err := d.survey(); err != nil {
		return 0, err
	}
	return len(d.own), nil
}

// AwaitDrained waits until the gated generation has no accepted connection left, and then calls stop,
// which sends the stop signal; where processes can be frozen, they are meanwhile. It returns
// ctx's error when ctx ends before. claimed lists the sockets that the new generation has claimed: one that
// it claims late is gated late. newer lists the processes of later generations.
func (t *Tracker) AwaitDrained(ctx context.Context, claimed func() []*Socket, newer func() []int, stop func()) error {
	d, err := t.newDrain(newer)
	if err != nil {
		return err
	}
	defer d.diag.Close()
	// An accept that was let through just before the gate was set may still be
	// about to put its connection into the descriptor table. So nothing is
	// believed to be the end that was seen once only.
	empty := 0
	wait := shortestPoll
	defer func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			d.lastTurns(ctx)
		}
	}()
	for {
		if err := d.poll(); err != nil {
			return err
		}
		left := d.emptySurplus(ctx)
		if left {
			wait = shortestPoll
		}
		if d.over() && !left && d.quiet() {
			empty++
			wait = shortestPoll
		} else {
			empty = 0
		}
		if d.g.opened() {
			return ErrUngated
		}
		if empty > 1 && d.nextTurn(ctx) {
			empty = 0
		}
		if empty > 1 {
			if stopped, err := d.stop(ctx, stop); stopped || err != nil {
				return err
			}
			empty = 0
		}
		early, ok := d.pause(ctx, wait)
		if !ok {
			return ctx.Err()
		}
		wait = min(wait*3/2, longestPoll)
		if early {
			wait = shortestPoll
		}
		if len(d.own) == 0 || wait > longestPoll/2 && time.Since(d.followed) >= followEach {
			d.follow(ctx, claimed())
		}
	}
}

// AwaitFinished waits until the connections are gone that the gated generation has now, or ctx has ended. What
// it accepts from now on does not count.
func (t *Tracker) AwaitFinished(ctx context.Context, newer func() []int) {
	d, err := t.newDrain(newer)
	if err != nil {
		return
	}
	defer d.diag.Close()
	if d.survey() != nil {
		return
	}
	wait := shortestPoll
	for len(d.own) > 0 {
		early, ok := d.pause(ctx, wait)
		if !ok || d.dump() != nil {
			return
		}
		d.keepAlive()
		wait = min(wait*3/2, longestPoll)
		if early {
			wait = shortestPoll
		}
	}
}

// pause waits, at the level calls no longer than until one of the own connections is about to be closed, and a moment more, in which
// the close runs. It is not ok when ctx has ended.
func (d *drain) pause(ctx context.Context, wait time.Duration) (early, ok bool) {
	if d.t.level != notify.LevelCalls {
		return false, pause(ctx, wait)
	}
	d.t.mu.Lock()
	d.t.outstanding = d.own
	d.t.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, false
	case <-timer.C:
		return false, true
	case <-d.t.ended:
		return true, pause(ctx, min(wait, closeRuns))
	}
}

// keepAlive forgets the own connections that the last dump did not have.
func (d *drain) keepAlive() {
	alive := make(map[uint32]struct{}, len(d.own))
	for _, c := range d.conns {
		if _, ok := d.own[c.Inode]; ok {
			alive[c.Inode] = struct{}{}
		}
	}
	d.own = alive
}

// over tells whether nothing is left to wait for.
func (d *drain) over() bool {
	if len(d.own) == 0 {
		return true
	}
	if d.t.idle == 0 {
		return false
	}
	for _, c := range d.conns {
		if _, ok := d.own[c.Inode]; ok && (c.Queued || c.Idle < d.t.idle) {
			return false
		}
	}
	return true
}

func (t *Tracker) newDrain(newer func() []int) (*drain, error) {
	t.mu.Lock()
	g := t.gate
	t.mu.Unlock()
	d := &drain{t: t, g: g, newer: newer, began: time.Now(), ports: make(map[uint16]struct{}), talks: make(map[uint16]struct{}), names: make(map[string]struct{}), hosts: make(map[uint32]struct{})}
	if g != nil {
		d.gatedAddresses()
	}
	d.stagedAddresses()
	var err error
	d.diag, err = sockdiag.Open()
	return d, err
}

func (d *drain) gatedAddresses() {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	for _, s := range d.g.sockets {
		d.address(s)
	}
}

// address adds a socket to those whose connections are listed.
func (d *drain) address(s *Socket) {
	switch unixSocket := s.Key.Address.Family == unix.AF_UNIX; {
	case unixSocket && s.Key.IsDatagram():
	case unixSocket:
		d.names[s.Path] = struct{}{}
		d.foreign = d.foreign || s.foreign
	case s.Key.Address.Family == unix.AF_VSOCK:
		d.hosts[s.Key.Address.Machine.Port] = struct{}{}
	case s.Key.IsDatagram():
		d.talks[s.Key.Address.Port()] = struct{}{}
	default:
		d.ports[s.Key.Address.Port()] = struct{}{}
	}
}

// stagedAddresses adds those on which the generation is not gated, because its successor has sockets of its own there.
func (d *drain) stagedAddresses() {
	d.t.mu.Lock()
	from := d.t.shrinking
	d.t.mu.Unlock()
	if from == nil {
		return
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	for _, s := range from.sockets {
		if s.staged != nil && s.surplus {
			d.address(s)
		}
	}
}

// follow gates what came up since the gate was set: sockets that were claimed
// late, and workers that were born.
func (d *drain) follow(ctx context.Context, claimed []*Socket) {
	d.followed = time.Now()
	if err := d.t.gateLate(ctx, d.g, claimed); err != nil && ctx.Err() == nil && !d.g.opened() {
		d.t.log.Warn("cannot gate what came up during the drain", slog.Int("generation", d.t.generation), slog.String("error", err.Error()))
	}
	d.gatedAddresses()
}

// poll forgets the own connections that are gone; where none is left it looks for
// others once more.
func (d *drain) poll() error {
	if err := d.dump(); err != nil {
		return err
	}
	if d.own != nil {
		d.keepAlive()
		if len(d.own) > 0 && len(d.between) == 0 {
			return nil
		}
	}
	d.attribute()
	return nil
}

func (d *drain) survey() error {
	if err := d.dump(); err != nil {
		return err
	}
	d.attribute()
	return nil
}

func (d *drain) dump() (err error) {
	list := d.diag.TCPConnections
	if d.t.idle > 0 {
		list = d.diag.DetailedTCPConnections
	}
	visits := ownVisits.to(d.ports)
	if d.conns, err = list(d.conns[:0], d.ports); err != nil {
		return err
	}
	ownVisits.gone(visits, d.conns)
	d.conns = slices.DeleteFunc(d.conns, ownVisits.over)
	if d.conns, err = d.diag.UDPConversations(d.conns, d.talks); err != nil {
		return err
	}
	if d.conns, err = d.diag.UnixConnections(d.conns, d.names); err != nil {
		return err
	}
	d.conns = ownUnixVisits.without(d.conns, d.names)
	if d.foreign {
		d.conns = foreignConnections(d.conns, d.t.pids(), d.names)
	}
	if len(d.hosts) > 0 {
		d.conns = machineConnections(d.conns, d.t.pids(), d.hosts)
	}
	return nil
}
