package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// ProbeCommand answers the connect calls of one run of a command that asks a staged generation whether it serves.
// The command knows nothing of the stage, and would reach the generation that serves. So its socket is bound, before
// the call runs, to a port that the group's program sends to the generation that is asked about, and to the address
// that it connects to, as a client's of this machine. Everything else runs as it would without.
//
// It implements [notify.Handler] for a filter that asks about connect.
type ProbeCommand struct {
	t *Tracker

	mu      sync.Mutex
	led     bool
	others  bool
	astray  error
	planted map[uint64]struct{} // sockets that the command was given in place of its own
}

// ProbeCommand prepares for a run of a command. Call Close when all of its processes are gone.
func (t *Tracker) ProbeCommand() *ProbeCommand {
	return &ProbeCommand{t: t, planted: make(map[uint64]struct{})}
}

// Close takes back the ports that the command was given.
func (p *ProbeCommand) Close() {
	if source := p.t.stage.source; source != nil {
		source.giveBack(p)
	}
}

// Led tells whether a connection of the command was led to the generation.
func (p *ProbeCommand) Led() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.led
}

// Elsewhere tells whether the command has connected to something else, and to nothing of the service's.
func (p *ProbeCommand) Elsewhere() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.others && !p.led
}

// Astray tells why a connection could not be led there, and reached whoever serves, or nobody; nil where there was
// none.
func (p *ProbeCommand) Astray() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.astray
}

// Handle implements [notify.Handler].
func (p *ProbeCommand) Handle(r *notify.Request) notify.Reply {
	if r.Call != notify.CallConnect {
		return notify.Continue()
	}
	target, ok := p.target(r)
	if !ok {
		return p.connectsElsewhere()
	}
	keys, shared := p.t.keysAt("tcp", target)
	if shared {
		return notify.Continue() // planted: see ErrShared
	}
	if len(keys) == 0 {
		return p.unclaimed(r, target)
	}
	if err := p.lead(r, target, keys); err != nil {
		return p.unled(target, err)
	}
	return notify.Continue()
}

// target is the address of this machine that a connect is to, as the service's sockets have it. It is not ok where
// it is none, or can't be told.
func (p *ProbeCommand) target(r *notify.Request) (netip.AddrPort, bool) {
	length := r.Int(2)
	if length < sockaddr.SizeofIn || length > sockaddr.SizeofStorage {
		return netip.AddrPort{}, false
	}
	buf := make([]byte, length)
	err := r.ReadMemory(r.Args[1], buf)
	if errors.Is(err, unix.EPERM) && (length == sockaddr.SizeofIn || length == sockaddr.SizeofIn6) {
		p.strays(fmt.Errorf("process %d may not be looked into: %w", r.TID, err)) // of another user, say
	}
	if err != nil || binary.NativeEndian.Uint16(buf) == unix.AF_UNSPEC { // which ends a connection
		return netip.AddrPort{}, false
	}
	address, err := sockaddr.Parse(buf)
	if err != nil || address.Family != unix.AF_INET && address.Family != unix.AF_INET6 || address.Port() == 0 {
		return netip.AddrPort{}, false
	}
	if protocol, err := proc.SocketProtocol(r.TID, r.FD()); err != nil || kinds[protocol].kind != unix.SOCK_STREAM {
		return netip.AddrPort{}, false // a datagram's is no connection
	}
	ip := reached(address.AddrPort.Addr())
	if !ip.IsLoopback() && !sockaddr.IsLocal(ip) {
		return netip.AddrPort{}, false
	}
	theirs, err := proc.NetNS(r.TID)
	if err != nil {
		return netip.AddrPort{}, false
	}
	ours, err := proc.NetNS(os.Getpid())
	return netip.AddrPortFrom(ip, address.Port()), err == nil && ours == theirs && r.Valid()
}

// reached is the address that a connect leads to: the loopback where it names none (connect(2)).
func reached(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	switch {
	case !ip.IsUnspecified():
		return ip
	case ip.Is6():
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func (p *ProbeCommand) connectsElsewhere() notify.Reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others = true
	return notify.Continue()
}

// unclaimed answers a connect to an address at which the generation has no socket. Where its predecessor has one, or
// clients wait in one, it would reach that: it is refused, as it will be.
func (p *ProbeCommand) unclaimed(r *notify.Request, target netip.AddrPort) notify.Reply {
	if p.t.preserved == nil {
		return p.connectsElsewhere()
	}
	s := p.t.preserved.awaited(func(s *Socket) bool { return s.Key.IsTCP() && s.Key.ReachedBy(target) })
	if s == nil || !r.Valid() {
		return p.connectsElsewhere()
	}
	p.t.log.Debug("a probe's connection to an address that the generation has not bound is refused",
		slog.Int("generation", p.t.generation), slog.String("address", target.String()))
	return notify.Fail(unix.ECONNREFUSED)
}

// unled answers a connect that could not be led.
func (p *ProbeCommand) unled(target netip.AddrPort, why error) notify.Reply {
	switch {
	case errors.Is(why, ErrNotListening):
		return notify.Fail(unix.ECONNREFUSED)
	case errors.Is(why, errNoPort):
		return notify.Fail(unix.EADDRNOTAVAIL)
	case errors.Is(why, errOnlyOne), errors.Is(why, notify.ErrTargetGone):
		return notify.Continue()
	}
	p.strays(fmt.Errorf("%s: %w", target, why))
	return notify.Continue()
}

func (p *ProbeCommand) strays(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.astray = why
}

// errOnlyOne: all clients come to the generation as it is.
var errOnlyOne = errors.New("nobody else has clients there")

// errBound: the command has bound its socket, and may mean it.
var errBound = errors.New("the command has bound the socket itself")

// lead sees to it that the connection comes to the generation.
func (p *ProbeCommand) lead(r *notify.Request, target netip.AddrPort, keys []sockaddr.Key) error {
	apart, err := p.t.aimAt(keys, target)
	if err != nil {
		return err
	}
	if !apart {
		p.notesLed()
		return errOnlyOne
	}
	s, err := p.socket(r)
	if err != nil {
		return err
	}
	defer s.close()
	source := p.t.stage.source
	switch {
	case source.isLent(s.port):
		p.notesLed()
		return nil // it asks once more: how far it is, or after it was refused
	case s.bound:
		return errBound
	}
	port, err := p.lend(target)
	if err != nil {
		return err
	}
	// Now that the port is known the program must know it too.
	if _, err := p.t.aimAt(keys, target); err != nil {
		return err
	}
	if err := s.bind(p, r, netip.AddrPortFrom(target.Addr(), port)); err != nil {
		return err
	}
	p.notesLed()
	return nil
}

func (p *ProbeCommand) notesLed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.led = true
}

// lend chooses a port from which a connection to the address can be made.
func (p *ProbeCommand) lend(target netip.AddrPort) (uint16, error) {
	diag, err := sockdiag.Open()
	if err != nil {
		return 0, err
	}
	defer diag.Close()
	return p.t.stage.source.lend(p, func(port uint16) bool {
		from := netip.AddrPortFrom(target.Addr(), port)
		for _, end := range [][2]netip.AddrPort{{from, target}, {target, from}} {
			if there, err := diag.Connected(end[0], end[1]); err != nil || there {
				return false
			}
		}
		return true
	})
}
