package sockets

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// near tells whether a preserved socket has the port of an address, so that it may be in the way of a bind there. It is as cheap as stands.
func (p *Preserved) near(a sockaddr.Address) bool {
	if a.Port() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.fd >= 0 && s.Key.Address.Port() == a.Port() {
			return true
		}
	}
	return false
}

// Abandoned says that no generation has the sockets any more: the old one is over. One that is in the way of another
// address can then be given up.
func (p *Preserved) Abandoned() {
	p.mu.Lock()
	p.abandoned = true
	by := p.stagedBy
	p.mu.Unlock()
	if by != nil {
		// Who comes from now on waits where somebody will serve.
		if err := by.takeOver(); err != nil {
			by.log.Warn("clients wait in the sockets of a generation that is over", slog.Int("generation", by.generation), slog.String("error", err.Error()))
		}
	}
}

func (p *Preserved) isAbandoned() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.abandoned
}

// overlapping returns the preserved sockets of other keys that are in the way of a bind. own is a duplicate of the socket that is to be bound,
// or -1. alone tells that they are nobody's any more.
func (p *Preserved) overlapping(k sockaddr.Key, own int) (list []*Socket, alone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.fd >= 0 && !s.claimed && !s.answers(k) && s.Key.Overlaps(k) && !sharePort(k, s.fd, own) {
			list = append(list, s)
		}
	}
	return list, p.abandoned
}

// sharePort tells whether both sockets say that they share their port.
func sharePort(k sockaddr.Key, fd, own int) bool {
	both := func(option int) bool {
		for _, fd := range []int{fd, own} {
			if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option); err != nil || on == 0 {
				return false
			}
		}
		return true
	}
	return own >= 0 && (both(unix.SO_REUSEPORT) || k.Type == unix.SOCK_DGRAM && both(unix.SO_REUSEADDR))
}

// inTheWay looks for preserved sockets that will make the bind fail, which is about to run. Where the old generation is over they are
// given up; else the bind fails, and most services with it, and this is the reason.
func (t *Tracker) inTheWay(b *binding) {
	list, alone := t.preserved.overlapping(b.key, b.own)
	for _, s := range list {
		var why string
		switch {
		case s.standing:
			why = fmt.Sprintf("it binds %s, which overlaps %s that huptime holds: write --listen as the service binds it (tcp6:// is IPv6 only)", b.key.Detailed(), s.Key.Detailed())
		case alone:
			t.log.Warn("an address is given up for another that overlaps it; clients that wait there are reset",
				slog.Int("generation", t.generation), slog.String("address", s.String()), slog.String("for", b.key.String()))
			t.preserved.giveUp(s)
			continue
		default:
			why = fmt.Sprintf("it binds %s, which overlaps %s of the old generation: such a change needs --exec", b.key.Detailed(), s.Key.Detailed())
		}
		t.mu.Lock()
		first := t.obstacle == ""
		if first {
			t.obstacle = why
		}
		t.mu.Unlock()
		if first {
			t.log.Warn("a bind is going to fail", slog.Int("generation", t.generation), slog.String("why", why))
		}
	}
}

// giveUp closes one socket.
func (p *Preserved) giveUp(s *Socket) {
	p.release(func(other *Socket) bool { return other == s })
}

// Obstacle says why a bind of the generation had to fail, or nothing. It may be the reason if the generation fails.
func (t *Tracker) Obstacle() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.obstacle
}
