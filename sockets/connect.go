package sockets

import (
	"log/slog"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// Many services look, before they bind, whether another instance of theirs runs: they connect to their own address, and refuse to start if
// somebody answers. Under huptime somebody does: the old generation, or where there is none, the queue in which clients wait. So while a
// generation starts, what it has yet to claim refuses its own connections, as it would at the very first start.

// connect answers connect(fd, address, length): ECONNREFUSED for a unix socket that the starting generation may claim and has not, and for
// such a TCP socket too where no generation serves it. All else runs. When the generation is ready nothing is looked at any more.
func (t *Tracker) connect(r *notify.Request) notify.Reply {
	t.mu.Lock()
	starting := t.starting
	t.mu.Unlock()
	if !starting || t.preserved == nil {
		return notify.Continue()
	}
	address, ok := t.asked(r)
	if !ok {
		return notify.Continue()
	}
	s := t.yetToClaim(r, address)
	if s == nil || !r.Valid() {
		return notify.Continue()
	}
	t.log.Debug("a connection to an address that the generation has yet to bind is refused", slog.Int("generation", t.generation),
		slog.String("address", s.String()), slog.Int("thread", r.TID))
	return notify.Fail(unix.ECONNREFUSED)
}

// yetToClaim finds the preserved socket that a connection would be to, and that is to be refused; nil where there is none.
func (t *Tracker) yetToClaim(r *notify.Request, a sockaddr.Address) *Socket {
	unixSocket := a.Family == unix.AF_UNIX
	if !unixSocket && !t.preserved.unserved(t.generation) {
		return nil // the old generation answers
	}
	if !t.preserved.mayReach(a) {
		return nil
	}
	if unixSocket && a.IsPath() {
		found, err := placeOf(r, a)
		if err != nil || found == nil {
			return nil
		}
		defer found.Close()
		return t.preserved.awaited(func(s *Socket) bool { return s.file != nil && s.file.is(found) })
	}
	// Paths are for all network namespaces, everything else is of one.
	theirs, err := proc.NetNS(r.TID)
	if err != nil {
		return nil
	}
	if ours, err := proc.NetNS(unix.Getpid()); err != nil || ours != theirs {
		return nil
	}
	if unixSocket {
		return t.preserved.awaited(func(s *Socket) bool { return s.Key.Address == a })
	}
	if protocol, err := proc.SocketProtocol(r.TID, r.FD()); err != nil || !strings.Contains(protocol, "TCP") {
		return nil
	}
	if t.hasOwnAt(a) {
		return nil
	}
	return t.preserved.awaited(func(s *Socket) bool { return s.Key.IsTCP() && s.Key.ReachedBy(a.AddrPort) })
}

// hasOwnAt tells whether the generation has bound a TCP socket of its own where this address leads: on the stage, or beside a preserved one that is
// decided about at its listen (postpone). What it stands for counts as claimed then.
func (t *Tracker) hasOwnAt(a sockaddr.Address) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, own := range t.stage.mine {
		if own.key.IsTCP() && own.key.ReachedBy(a.AddrPort) {
			return true
		}
	}
	for _, key := range t.stage.postponed {
		if key.ReachedBy(a.AddrPort) {
			return true
		}
	}
	return false
}

// mayReach is a first look, which costs no look into the process.
func (p *Preserved) mayReach(a sockaddr.Address) bool {
	return p.awaited(func(s *Socket) bool {
		if s.Key.Address.Family == unix.AF_UNIX {
			return a.Family == unix.AF_UNIX && (!a.IsPath() && s.Key.Address == a || a.IsPath() && s.file != nil && s.file.found.Name == base(a.Name))
		}
		return a.Port() != 0 && s.Key.IsTCP() && s.Key.Address.Port() == a.Port()
	}) != nil
}

// base is the last component of a path.
func base(path string) string {
	_, name, err := paths.Split(path)
	if err != nil {
		return ""
	}
	return name
}

// awaited returns the first socket that the generation may claim and has not, and that ok accepts; nil where there is none, or where it has
// claimed another such.
func (p *Preserved) awaited(ok func(*Socket) bool) *Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found *Socket
	for _, s := range p.sockets {
		if !ok(s) {
			continue
		}
		if s.claimed || s.passed {
			return nil
		}
		if found == nil && s.fd >= 0 {
			found = s
		}
	}
	return found
}

// unserved tells whether no generation serves these sockets while this one starts: the old one is over, or there was none.
func (p *Preserved) unserved(generation int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.abandoned || generation == 1
}

// Connects says of which connections a starting generation must be refused some: of those to unix sockets, or of all.
type Connects uint8

const (
	ConnectsNone Connects = iota
	ConnectsUnix
	ConnectsAll
)

// Refuses tells which connections its filter has to ask about. All where nobody serves the sockets and there is a TCP one; and where the
// length of a unix address may be one that an internet address has, by which a filter tells them (notify.WithConnect).
func (p *Preserved) Refuses(generation int) Connects {
	if p == nil {
		return ConnectsNone
	}
	unserved := p.unserved(generation)
	p.mu.Lock()
	defer p.mu.Unlock()
	which := ConnectsNone
	for _, s := range p.sockets {
		switch {
		case s.fd < 0:
		case s.Key.Address.Family == unix.AF_UNIX && s.Path != "":
			which = max(which, ConnectsUnix)
			for _, length := range []int{2 + len(s.Path), 3 + len(s.Path)} { // with the NUL behind a path, or without
				if length == sockaddr.SizeofIn || length == sockaddr.SizeofIn6 {
					which = ConnectsAll
				}
			}
		case unserved && s.Key.IsTCP():
			which = ConnectsAll
		}
	}
	return which
}
