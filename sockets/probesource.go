package sockets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// probeSource are the ports that probes of one generation come from. A client from elsewhere may have the same
// port, but not the address that it connects to: a probe has both. The ports are held, so that no client on
// this machine gets one.
type probeSource struct {
	heldPort // of DialProbe
	once     sync.Once

	mu   sync.Mutex
	busy map[string]chan struct{} // by network and address: one connection at a time can have both ports
	// lent are the ports of commands, see ProbeCommand; owned. The one that was lent last is the last.
	lent   []*lentPort
	closed bool
}

// heldPort is a port that no client gets by chance, as a TCP socket is bound to it: connect(2) chooses no port that
// was bound.
type heldPort struct {
	port uint16
	held int // the socket; owned
}

// holdPort holds a port of the kernel's choice, of both families where there are two.
func holdPort() (heldPort, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	var any unix.Sockaddr = &unix.SockaddrInet6{}
	if err != nil {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		any = &unix.SockaddrInet4{}
	}
	if err != nil {
		return heldPort{}, os.NewSyscallError("socket", err)
	}
	// With SO_REUSEADDR probes may have the port beside it.
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, any))
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return heldPort{}, fmt.Errorf("cannot choose a port for probes: %w", err)
	}
	address, _ := sockaddr.Of(name)
	return heldPort{address.Port(), fd}, nil
}

func newProbeSource() (*probeSource, error) {
	held, err := holdPort()
	if err != nil {
		return nil, err
	}
	return &probeSource{heldPort: held, busy: make(map[string]chan struct{})}, nil
}

func (p *probeSource) close() {
	p.once.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		unix.Close(p.held)
		for _, l := range p.lent {
			unix.Close(l.held)
		}
		p.lent, p.closed = nil, true
	})
}

// ports are those that probes may come from at this moment.
func (p *probeSource) ports() []uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []uint16{p.port}
	for _, l := range p.lent {
		list = append(list, l.port)
	}
	return list
}

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

// maxLent bounds the ports of commands. A connection that its server does not end keeps its port: such a server is
// asked so often until nothing comes of it any more.
const maxLent = 64

// errNoPort: all ports have connections that are not ended.
var errNoPort = errors.New("no port is left for the connections of probes")

// lentPort is a port that sockets of a command are bound to.
type lentPort struct {
	heldPort
	to map[*ProbeCommand]struct{} // commands that may be about to connect from it
}

// lend chooses a port for a connection of a command: one that no other running command was given, this one neither,
// and that nothing is connected from. Of several it is the one that was not used for longest. free tells of a port
// whether a connection can be made from it.
func (p *probeSource) lend(to *ProbeCommand, free func(port uint16) bool) (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, os.ErrClosed
	}
	chosen := slices.IndexFunc(p.lent, func(l *lentPort) bool { return len(l.to) == 0 && free(l.port) })
	if chosen < 0 && len(p.lent) < maxLent {
		held, err := holdPort()
		if err != nil {
			return 0, err
		}
		p.lent = append(p.lent, &lentPort{held, make(map[*ProbeCommand]struct{})})
		chosen = len(p.lent) - 1
	}
	if chosen < 0 { // a loop in a command: it may have ended the connection by now
		chosen = slices.IndexFunc(p.lent, func(l *lentPort) bool { return free(l.port) })
	}
	if chosen < 0 {
		return 0, errNoPort
	}
	l := p.lent[chosen]
	l.to[to] = struct{}{}
	p.lent = append(slices.Delete(p.lent, chosen, chosen+1), l)
	return l.port, nil
}

// giveBack takes the ports of a command back.
func (p *probeSource) giveBack(from *ProbeCommand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lent {
		delete(l.to, from)
	}
}

// isLent tells whether a port is one of those.
func (p *probeSource) isLent(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.lent, func(l *lentPort) bool { return l.port == port })
}
