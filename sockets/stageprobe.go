package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors of DialProbe that callers tell apart.
var (
	// ErrNotListening: no socket of the generation listens there yet, or the service has another address.
	ErrNotListening = errors.New("the new generation does not listen there")
	// ErrShared: the generation has the socket of its predecessor, so that nobody can tell which of both
	// would answer.
	ErrShared = errors.New("the new generation shares this address's socket with the old one")
)

// probeSource is the port that probes of one generation come from. A client from elsewhere may have the same
// port, but not the address that it connects to: a probe has both. The port is held, so that no client on
// this machine gets it.
type probeSource struct {
	port uint16
	held int // a TCP socket that is bound to it; owned
	once sync.Once

	mu   sync.Mutex
	busy map[string]chan struct{} // by network and address: one connection at a time can have both ports
}

func newProbeSource() (*probeSource, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	var any unix.Sockaddr = &unix.SockaddrInet6{}
	if err != nil {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		any = &unix.SockaddrInet4{}
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// With SO_REUSEADDR probes may have the port beside it; connect(2) chooses no port that was bound.
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, any))
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot choose a port for probes: %w", err)
	}
	address, _ := SockaddrOf(name)
	return &probeSource{port: address.Port(), held: fd, busy: make(map[string]chan struct{})}, nil
}

func (p *probeSource) close() { p.once.Do(func() { unix.Close(p.held) }) }

// turn waits until no other probe has a connection to an address.
func (p *probeSource) turn(ctx context.Context, address string) (done func(), err error) {
	p.mu.Lock()
	c := p.busy[address]
	if c == nil {
		c = make(chan struct{}, 1)
		p.busy[address] = c
	}
	p.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// probeOrSkip skips what follows, a program of that many instructions, for packets that are no probe's: those
// whose source address is not the destination's, or that come from another port. Programs of a group see the
// network header at SKF_NET_OFF (include/uapi/linux/filter.h). A probe's has no options.
func probeOrSkip(port uint16, skip int) []unix.SockFilter {
	const (
		header = 0xfff00000 // SKF_NET_OFF
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		half   = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		octet  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		toX    = unix.BPF_MISC | unix.BPF_TAX
		equalX = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	)
	sameWord := func(a, b uint32) []unix.SockFilter {
		return []unix.SockFilter{{Code: load, K: header + a}, {Code: toX}, {Code: load, K: header + b}, {Code: equalX}}
	}
	samePort := func(at uint32) []unix.SockFilter {
		return []unix.SockFilter{{Code: half, K: header + at}, {Code: equal, K: uint32(port)}}
	}
	v4 := append(sameWord(12, 16), samePort(20)...)
	var v6 []unix.SockFilter
	for word := uint32(8); word < 24; word += 4 {
		v6 = append(v6, sameWord(word, word+16)...)
	}
	v6 = append(v6, samePort(40)...)
	program := []unix.SockFilter{
		{Code: octet, K: header},
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
		{Code: equal, K: 4, Jf: uint8(len(v4) + 1)},
	}
	program = append(program, v4...)
	program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(v6))})
	program = append(program, v6...)
	// Here is who is a probe; who is not goes to the last instruction.
	program = append(program,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(skip)})
	last := len(program) - 1
	for i, ins := range program {
		if ins.Code == equalX || ins.Code == equal && ins.K == uint32(port) && i > 2 {
			program[i].Jf = uint8(last - i - 1)
		}
	}
	return program
}

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
	t.mu.Lock()
	var keys []Key
	shared := false
	for _, own := range t.stage.mine {
		if own.key.datagram() == (network[0] == 'u') && own.key.takes(target) {
			keys = append(keys, own.key)
			shared = shared || own.planted
		}
	}
	t.mu.Unlock()
	if shared && t.preserved != nil && !t.preserved.isAbandoned() {
		return fmt.Errorf("%s: %w", target, ErrShared)
	}
	found := false
	for _, k := range keys {
		g := t.knocks.ports.of(k)
		g.mu.Lock()
		err := g.look()
		if err == nil {
			for _, inode := range g.array {
				found = found || g.of[inode] == t
			}
			if g.serving != nil && (g.serving != t || !g.even()) {
				err = g.attach(false)
			}
		}
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s: %w", target, ErrNotListening)
	}
	return nil
}

// takes tells whether a client that connects to this address comes to a socket of the key, if to none that is
// more particular.
func (k Key) takes(target netip.AddrPort) bool {
	ip := k.Address.AddrPort.Addr()
	if k.Address.Port() != target.Port() {
		return false
	}
	if ip.IsUnspecified() {
		return k.bothFamilies() || ip.Is4() == target.Addr().Is4()
	}
	return sameHost(ip.Unmap(), target.Addr().Unmap())
}
