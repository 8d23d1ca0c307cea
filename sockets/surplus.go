package sockets

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// handshakes lists the clients whose connection to the port of a socket is being made at this moment: it may come to any socket of the group
// yet. None for datagrams.
func handshakes(k sockaddr.Key) map[netip.AddrPort]struct{} {
	if k.IsDatagram() {
		return nil
	}
	diag, err := sockdiag.Open()
	if err != nil {
		return nil
	}
	defer diag.Close()
	return handshakesAt(diag, k)
}

func handshakesAt(diag *sockdiag.Conn, k sockaddr.Key) map[netip.AddrPort]struct{} {
	// TCP_NEW_SYN_RECV is what a request is in (Linux 4.4), TCP_SYN_RECV what it is asked for and shown as.
	list, err := diag.InetSockets(uint8(k.Address.Family), unix.IPPROTO_TCP, 1<<sockdiag.TCPSynReceived|1<<sockdiag.TCPNewSynReceived, k.Address.Port())
	if err != nil {
		return nil
	}
	clients := make(map[netip.AddrPort]struct{}, len(list))
	for _, c := range list {
		clients[c.Remote] = struct{}{}
	}
	return clients
}

// surplusLeft lists the surplus that the old generation still has to serve.
func (p *Preserved) surplusLeft() []*Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*Socket
	for _, s := range p.sockets {
		if s.surplus && !s.served && !s.claimed && s.fd >= 0 {
			list = append(list, s)
		}
	}
	return list
}

// letGo closes one of the surplus, of which the supervisor has the last descriptor. With the last one the steering ends.
func (p *Preserved) letGo(s *Socket) {
	p.mu.Lock()
	if s.fd >= 0 && !s.claimed {
		s.close()
	}
	p.mu.Unlock()
	p.endSteeringOver()
}

// endSteeringOver ends the steering where no surplus is left.
func (p *Preserved) endSteeringOver() {
	p.mu.Lock()
	open := slices.ContainsFunc(p.sockets, func(s *Socket) bool { return s.surplus && s.staged == nil && !s.claimed && s.fd >= 0 })
	p.mu.Unlock()
	if !open {
		p.endSteering()
	}
}

func (p *Preserved) endSteering() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.steerings {
		s.end()
	}
	p.steerings = nil
}

// emptySurplus gates the generation on those of the surplus in which nothing waits any more, and closes them where it can. It tells whether there are
// others.
func (d *drain) emptySurplus(ctx context.Context) (left bool) {
	d.t.mu.Lock()
	from := d.t.shrinking
	d.t.mu.Unlock()
	if from == nil {
		return false
	}
	for _, s := range from.surplusLeft() {
		// An accept queue that was seen empty once may get what was on its way.
		if from.seen(s, d.empty(from, s)) < 2 {
			left = true
			continue
		}
		if s.staged != nil {
			from.nowServed(s) // it gets nothing more, and is closed with the generation
			continue
		}
		if err := d.t.gateLate(ctx, d.g, []*Socket{s}); err != nil {
			// The old generation goes on to serve it, as long as it lives.
			d.t.log.Warn("cannot gate a socket that nobody has claimed", slog.Int("generation", d.t.generation),
				slog.String("address", s.String()), slog.String("error", err.Error()))
		}
		// At level connections who does not accept has it still, and would get clients without the steering: that ends with the
		// generation then (Preserved.Close).
		from.nowServed(s)
		if !d.t.holds(s.Inode) {
			from.letGo(s)
		}
	}
	return left
}

// seen notes whether nothing waited in a surplus socket at a look, and returns how many looks in a row have found that.
func (p *Preserved) seen(s *Socket, empty bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.empty++
	if !empty {
		s.empty = 0
	}
	return s.empty
}

// nowServed notes that the old generation has served all that waited in a surplus socket.
func (p *Preserved) nowServed(s *Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.served = true
}

// connecting returns how many of the clients still connect that did when the group was steered away from a surplus
// socket. now are all that do at this moment; nil leaves it as it is known.
func (p *Preserved) connecting(s *Socket, now map[netip.AddrPort]struct{}) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client := range s.early {
		if _, still := now[client]; now != nil && !still {
			delete(s.early, client)
		}
	}
	return len(s.early)
}

// empty tells whether nothing waits in the queue of a surplus socket, and nothing is on its way there.
func (d *drain) empty(from *Preserved, s *Socket) bool {
	k := s.Key
	protocol, states := uint8(unix.IPPROTO_TCP), uint32(1<<sockdiag.TCPListen)
	if k.IsDatagram() {
		protocol, states = unix.IPPROTO_UDP, 1<<sockdiag.TCPClose
	}
	if from.connecting(s, nil) > 0 {
		if from.connecting(s, handshakesAt(d.diag, k)) > 0 && time.Since(d.began) < handshakeLimit {
			return false
		}
	}
	list, err := d.diag.InetSockets(uint8(k.Address.Family), protocol, states, k.Address.Port())
	if err != nil {
		return false
	}
	for _, l := range list {
		if uint64(l.Inode) == s.Inode {
			return l.Waiting == 0
		}
	}
	return true
}

// handshakeLimit bounds the wait for clients who have begun to connect and do not go on: they are in no queue yet.
const handshakeLimit = 5 * time.Second

// AwaitEmptied waits until nothing waits in the surplus, or ctx has ended. It is for a generation that can't be gated
// and gets its stop signal at once.
func (t *Tracker) AwaitEmptied(ctx context.Context) {
	t.mu.Lock()
	from := t.shrinking
	t.mu.Unlock()
	if from == nil || len(from.surplusLeft()) == 0 {
		return
	}
	d, err := t.newDrain(nil)
	if err != nil {
		return
	}
	defer d.diag.Close()
	for seen := 0; seen < 2 && pause(ctx, shortestPoll); {
		seen++
		for _, s := range from.surplusLeft() {
			if !d.empty(from, s) {
				seen = 0
			}
		}
	}
}
