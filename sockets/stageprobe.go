package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// Errors of DialProbe that callers tell apart.
var (
	// ErrNotListening: no socket of the generation listens there yet, or the service has another address.
	ErrNotListening = errors.New("the new generation does not listen there")
	// ErrShared: the generation has the socket of its predecessor, so that nobody can tell which of both
	// would answer.
	ErrShared = errors.New("the new generation shares this address's socket with the old one")
)

// DialProbe connects to an address of the service, so that a socket of this generation's own is reached and
// no other. network is "tcp", "tcp4", "tcp6", or the same of udp; a host that stands for all addresses is
// taken for the loopback. The error matches ErrNotListening or ErrShared where there is no such socket. A
// second connection to the same address waits until the first is closed. Closing one resets it.
func (t *Tracker) DialProbe(ctx context.Context, network, address string) (net.Conn, error) {
	if t.stage == nil {
		return nil, errors.New("cannot probe: the generation is not staged")
	}
	targets, err := probeTargets(ctx, network, address)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, target := range targets {
		c, err := t.dialProbe(ctx, network, target)
		if err == nil {
			return c, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed // each says which address; who asked says what for
}

func probeTargets(ctx context.Context, network, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	lookup := "ip"
	if n := len(network); n > 3 {
		lookup += network[n-1:]
	}
	var hosts []netip.Addr
	switch ip, err := netip.ParseAddr(host); {
	case host == "" || err == nil && ip.IsUnspecified():
		if lookup != "ip6" && !ip.Is6() {
			hosts = append(hosts, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		}
		if lookup != "ip4" && !ip.Is4() {
			hosts = append(hosts, netip.IPv6Loopback())
		}
	case err == nil:
		hosts = append(hosts, ip)
	default:
		if hosts, err = net.DefaultResolver.LookupNetIP(ctx, lookup, host); err != nil {
			return nil, err
		}
	}
	var targets []netip.AddrPort
	for _, ip := range hosts {
		targets = append(targets, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return targets, nil
}

func (t *Tracker) dialProbe(ctx context.Context, network string, target netip.AddrPort) (net.Conn, error) {
	if err := t.aim(network, target); err != nil {
		return nil, err
	}
	source := t.stage.source
	done, err := source.turn(ctx, network+" "+target.String())
	if err != nil {
		return nil, err
	}
	from := netip.AddrPortFrom(target.Addr(), source.port)
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	d.Control = func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(failed, err)
	}
	if network[0] == 'u' {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	if network[0] != 'u' {
		// Before it is made: one that is given up while it is connected is closed in order, and not reset.
		ownVisits.add(visit{plain(from), target.Port()})
	}
	c, err := d.DialContext(ctx, network, target.String())
	if err != nil {
		done()
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // no TIME_WAIT: the next probe has the same ports
	}
	return &probe{Conn: c, done: sync.OnceFunc(done)}, nil
}

// probe is a connection that lets the next one come when it is closed.
type probe struct {
	net.Conn
	done func()
}

func (p *probe) Close() error {
	defer p.done()
	return p.Conn.Close()
}

// aim sees to it that a probe to this address reaches the generation.
func (t *Tracker) aim(network string, target netip.AddrPort) error {
	keys, shared := t.keysAt(network, target)
	if shared {
		return fmt.Errorf("%s: %w", target, ErrShared)
	}
	_, err := t.aimAt(keys, target)
	return err
}

// keysAt lists the addresses of the generation that a client of this one may come to, and tells whether it shares one's socket with its predecessor.
func (t *Tracker) keysAt(network string, target netip.AddrPort) (keys []sockaddr.Key, shared bool) {
	t.mu.Lock()
	for _, own := range t.stage.mine {
		if own.key.IsDatagram() == (network[0] == 'u') && own.key.Takes(target) {
			keys = append(keys, own.key)
			shared = shared || own.planted
		}
	}
	t.mu.Unlock()
	return keys, shared && t.preserved != nil && !t.preserved.isAbandoned()
}

// aimAt is aim for these addresses. It tells whether what is no probe's comes to another generation there.
func (t *Tracker) aimAt(keys []sockaddr.Key, target netip.AddrPort) (apart bool, err error) {
	found := false
	for _, k := range keys {
		g := t.knocks.ports.of(k)
		g.mu.Lock()
		err := g.look()
		if err == nil {
			for _, inode := range g.array {
				found = found || g.of[inode] == t
			}
			apart = apart || g.serving != nil && g.serving != t
			if g.serving != nil && (g.serving != t || !g.even()) {
				err = g.attach(false)
			}
		}
		g.mu.Unlock()
		if err != nil {
			return false, err
		}
	}
	if !found {
		return false, fmt.Errorf("%s: %w", target, ErrNotListening)
	}
	return apart, nil
}
