package sockets

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// Switch sends all clients to the generation's own sockets. Its predecessor's are surplus from then on: the
// old generation serves what waits in them, and whose handshake has begun, and needs no gate. A group in
// which the generation has no socket any more stays the old one's.
//
// The context bounds nothing that waits: a switch is a look and a setsockopt for each group.
func (t *Tracker) Switch(ctx context.Context) error {
	groups := t.stagedGroups()
	var failed error
	var done []staged
	for _, g := range groups {
		switched, err := g.switchTo(t)
		if err != nil {
			failed = errors.Join(failed, err)
			break
		}
		if switched {
			done = append(done, g)
		} else {
			t.leave(g)
		}
	}
	if failed == nil {
		failed = ctx.Err()
	}
	if failed != nil {
		for _, g := range done {
			_, err := g.switchTo(g.before)
			failed = errors.Join(failed, err)
		}
		return failed
	}
	for _, g := range done {
		t.preserved.retire(g.reuseport)
	}
	t.mu.Lock()
	t.stage.switched = true
	t.mu.Unlock()
	return nil
}

// SwitchBack sends all clients to the predecessor's sockets again. What waits in the generation's own queues
// is lost if it does not serve it: lost says how many connections and datagrams these are. Those of a process
// that is gone already can't be counted.
func (t *Tracker) SwitchBack(_ context.Context) (lost int, err error) {
	var failed error
	for _, g := range t.stagedGroups() {
		if _, err := g.switchTo(g.before); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		t.preserved.reinstate(g.reuseport)
		lost += g.waiting(t)
	}
	t.mu.Lock()
	t.stage.switched = false
	t.mu.Unlock()
	if lost > 0 {
		t.log.Warn("clients wait in the sockets of a generation that has failed",
			slog.Int("generation", t.generation), slog.Int("clients", lost))
	}
	return lost, failed
}

// takeOver is Switch before the generation is ready, because its predecessor has ended: clients wait in the
// generation's own sockets then. Where it does not listen yet they wait in the preserved ones, which are
// planted at the listen.
func (t *Tracker) takeOver() error {
	var failed error
	for _, g := range t.stagedGroups() {
		switched, err := g.switchTo(t)
		failed = errors.Join(failed, err)
		if switched {
			t.preserved.retire(g.reuseport)
		}
	}
	return failed
}

func (t *Tracker) stagedGroups() []staged {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]staged, 0, len(t.stage.groups))
	for _, g := range t.stage.groups {
		list = append(list, g)
	}
	return list
}

// switchTo sends the clients to the sockets of a generation, unless it has none.
func (g *reuseport) switchTo(t *Tracker) (switched bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.look(); err != nil {
		return false, err
	}
	if g.helper >= 0 && g.key.Protocol == unix.IPPROTO_TCP && len(g.array) > 2 {
		g.dismiss() // there is a group now, and its own sockets take programs
	}
	before := g.serving
	g.serving = t
	if len(g.indexes(t)) == 0 {
		g.serving = before
		return false, nil
	}
	if err := g.attach(false); err != nil {
		g.serving = before
		return false, err
	}
	return true, nil
}

// waiting counts what waits in the sockets of a generation: connections, and datagram sockets in which there
// is something.
func (g *reuseport) waiting(t *Tracker) (count int) {
	list, err := listeners(g.key)
	if err != nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range list {
		switch {
		case g.of[uint64(s.Inode)] != t || s.Waiting == 0:
		case g.key.IsDatagram():
			count++
		default:
			count += int(s.Waiting)
		}
	}
	return count
}

// leave gives a group up in which the generation has nothing any more: a later bind is answered as ever.
func (t *Tracker) leave(g staged) {
	t.mu.Lock()
	delete(t.stage.groups, g.key)
	t.mu.Unlock()
	t.preserved.unstage(g.reuseport)
}

// joinLater gives a socket its share that the generation adds when it serves: once it listens, which is a
// moment after this.
func (t *Tracker) joinLater(g *reuseport, inode uint64) {
	const limit = 10 * time.Second
	wait := time.Millisecond
	for began := time.Now(); time.Since(began) < limit && !t.gone(); wait = min(2*wait, longestPoll) {
		time.Sleep(wait)
		if g.joined(inode) {
			return
		}
	}
}

func (g *reuseport) joined(inode uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.look() != nil {
		return false
	}
	for _, other := range g.array {
		if other == inode {
			return g.even() || g.attach(false) == nil
		}
	}
	return false
}

// retire makes surplus of the preserved sockets of a group.
func (p *Preserved) retire(g *reuseport) {
	early := handshakes(g.key)
	before := clientsAt(g.key)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.before == nil {
		p.before = make(map[uint16]map[netip.AddrPort]struct{})
	}
	p.before[g.key.Address.Port()] = before
	for _, s := range p.sockets {
		if s.staged == g {
			s.surplus = true
			s.early = make(map[netip.AddrPort]struct{}, len(early))
			for client := range early {
				s.early[client] = struct{}{}
			}
		}
	}
}

// clientsAt lists the clients of a port at this moment, of whatever generation: who is among them came before the switch.
func clientsAt(k sockaddr.Key) map[netip.AddrPort]struct{} {
	clients := handshakes(k)
	if clients == nil {
		return nil // datagrams have none
	}
	diag, err := sockdiag.Open()
	if err != nil {
		return clients
	}
	defer diag.Close()
	list, err := diag.TCPConnections(nil, map[uint16]struct{}{k.Address.Port(): {}})
	if err != nil {
		return clients
	}
	for _, c := range list {
		clients[c.Remote] = struct{}{}
	}
	return clients
}

// cameBefore tells whether a connection that may be anybody's came before the clients were sent to another generation. Where they were not it may have.
func (p *Preserved) cameBefore(c sockdiag.Connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	clients, switched := p.before[c.Local.Port()]
	if !switched {
		return true
	}
	_, before := clients[c.Remote]
	return before
}

// reinstate undoes retire.
func (p *Preserved) reinstate(g *reuseport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.staged == g {
			s.surplus, s.served, s.empty, s.early = false, false, 0, nil
		}
	}
}

// unstage lets the preserved sockets of a group, or of all where it is nil, be claimed.
func (p *Preserved) unstage(g *reuseport) {
	p.mu.Lock()
	groups := make(map[*reuseport][]*Socket)
	for _, s := range p.sockets {
		if s.staged != nil && (g == nil || s.staged == g) {
			groups[s.staged] = append(groups[s.staged], s)
			s.staged, s.surplus, s.served, s.empty, s.early = nil, false, false, 0, nil
		}
	}
	if g == nil {
		p.stagedBy = nil
	}
	p.mu.Unlock()
	for g, list := range groups {
		g.reset(list)
	}
}

// reset ends a confinement; the preserved sockets stay open.
func (g *reuseport) reset(list []*Socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.look() != nil {
		return
	}
	g.serving, g.probed = list[0].owner, nil
	g.finish()
	g.disown(list)
}

// closeStaged closes the preserved sockets that own ones of a later generation stand for.
func (p *Preserved) closeStaged() {
	p.mu.Lock()
	groups := make(map[*reuseport][]*Socket)
	for _, s := range p.sockets {
		if s.staged != nil && s.fd >= 0 {
			groups[s.staged] = append(groups[s.staged], s)
		}
	}
	p.mu.Unlock()
	for g, list := range groups {
		g.settle(list)
	}
}

// empty tells whether there is nothing to gate.
func (g *gate) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sockets) == 0
}
