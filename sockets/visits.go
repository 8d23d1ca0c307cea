package sockets

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// Some connections to the service are huptime's own: those that wake somebody up (queue.connect), and probes. They
// are closed without a word, or after the answer, which programs are used to; but some never close what ends so, and
// it would hold up their drain for ever. Such a connection does not count: nobody waits for anything there.

// ownVisits are the connections that this process has made, whatever generation has accepted them.
var ownVisits = visits{made: make(map[visit]time.Time)}

// maxVisits bounds them; the kernel has no more ports for one address.
const maxVisits = 1 << 16

// visit is a TCP connection: the end that it comes from, and the port that it was made to.
type visit struct {
	from netip.AddrPort
	port uint16
}

type visits struct {
	mu   sync.Mutex
	made map[visit]time.Time
}

// NoteVisit notes a connection of this process's to the service: a drain does not wait for it. Others than TCP
// connections are left out.
func NoteVisit(c net.Conn) {
	from, ok := c.LocalAddr().(*net.TCPAddr)
	to, also := c.RemoteAddr().(*net.TCPAddr)
	if ok && also {
		ownVisits.add(visit{plain(from.AddrPort()), to.AddrPort().Port()})
	}
}

// note is NoteVisit for a socket that was connected to a port.
func (v *visits) note(fd int, port uint16) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return
	}
	if a, ok := sockaddr.Of(name); ok && a.AddrPort.IsValid() {
		v.add(visit{plain(a.AddrPort), port})
	}
}

func (v *visits) add(one visit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.made) < maxVisits {
		v.made[one] = time.Now()
	}
}

// plain is an address as either family has it.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func visitOf(c sockdiag.Connection) visit { return visit{plain(c.Remote), c.Local.Port()} }

// over tells whether a connection was one of these, and is over but for the service's own close.
func (v *visits) over(c sockdiag.Connection) bool {
	if c.State != sockdiag.TCPCloseWait {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.made[visitOf(c)]
	return ok
}

// visitConnects is how long one may take to be connected: it is noted at its begin.
const visitConnects = 10 * time.Second

// gone forgets those of known, which were there before the list was made, that are in it no more: a client may get
// their port.
func (v *visits) gone(known map[visit]struct{}, list []sockdiag.Connection) {
	for _, c := range list {
		delete(known, visitOf(c))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for one := range known {
		delete(v.made, one)
	}
}

// to lists those to these ports that are connected by now, or never will be.
func (v *visits) to(ports map[uint16]struct{}) map[visit]struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make(map[visit]struct{})
	for one, made := range v.made {
		if _, ok := ports[one.port]; ok && time.Since(made) > visitConnects {
			list[one] = struct{}{}
		}
	}
	return list
}
