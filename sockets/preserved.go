package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// Socket is a preserved listening socket.
type Socket struct {
	Key      sockaddr.Key
	Inode    uint64 // of the socket, as /proc/PID/fd shows it
	NonBlock bool   // O_NONBLOCK of the open file description when it was collected

	// Path is the name of a unix socket as the kernel has it: the path as it was once given to bind, or NUL and the abstract name.
	Path string

	fd      int        // the supervisor's duplicate, -1 once it was closed
	release sync.Mutex // held while fd is closed, or copied by others than Preserved
	claimed bool
	wants   *wish       // guarded by release; nil where the socket has the flag that it should have
	file    *socketFile // of a unix socket with a path; owned, closed with fd
	// withheld: the generation that made the file has removed it, and was only told so.
	withheld bool

	misses  int  // how often in a row the generation that served it was not found to have it
	dropped bool // that generation has closed it while its successor started

	standing bool // see Standing: fd and file are that one's, and stay open
	expected bool // of a standing one: the generation is thought to claim it
	passed   bool // of a standing one: the generation was started with it
	// room is how much the queue of a datagram socket may hold, as the service has it, while it may hold more; else 0.
	room int

	owner  *Tracker   // of the generation that it was collected from; nil for what none has bound
	staged *reuseport // a generation that starts, or has taken over, has sockets of its own beside it; nil else

	chosen bool // its port is the kernel's choice
	late   bool // the service sets O_NONBLOCK after its listen
	shared bool // SO_REUSEPORT is the supervisor's: see share

	// steered: the service has attached a program of its own to the SO_REUSEPORT group.
	steered bool
	// dialed: the old generation has bound other sockets to the address that it did not listen on: see dials.
	dialed  bool
	foreign bool // of another network namespace than the supervisor's
	// surplus: the new generation uses fewer sockets of the group, and the group was steered away from this one; see Shrink.
	surplus bool
	served  bool                        // of a surplus socket: nothing waits in it any more, and the old generation is gated on it
	empty   int                         // of a surplus socket: how often in a row nothing waited in it
	early   map[netip.AddrPort]struct{} // likewise: clients that were connecting when the group was steered
}

// String is the address, for people.
func (s *Socket) String() string {
	if s.Path != "" {
		return sockaddr.UnixString(s.Path)
	}
	return s.Key.String()
}

// Standing tells whether the supervisor holds it for its whole life: see [Standing].
func (s *Socket) Standing() bool { return s.standing }

// close gives back what the supervisor holds of it.
func (s *Socket) close() {
	if s.standing {
		return
	}
	s.release.Lock()
	defer s.release.Unlock()
	unix.Close(s.fd)
	s.fd = -1
	if s.file != nil {
		s.file.found.Close()
	}
}

// Preserved holds duplicates of the listening sockets of a generation while the
// next one starts. It owns them; Close when the old generation is gone.
// Its methods may be called from several goroutines.
type Preserved struct {
	mu      sync.Mutex
	sockets []*Socket // in the order in which they were first listened on
	unseen  int       // how many more the old generation listens on, which could not be copied
	// abandoned: see Abandoned.
	abandoned bool
	// old is the generation that they were collected from; nil where there is none.
	old *Tracker
	// before are the clients of each port at the moment when the clients were sent to own sockets of a new generation.
	before   map[uint16]map[netip.AddrPort]struct{}
	stagedBy *Tracker // whose own sockets stand for these; nil where there are none
	// steerings are of groups that have surplus sockets, confined of those that grow; owned.
	steerings []steering
	confined  map[sockaddr.Key]steering
}

// Sockets lists all, claimed or not.
func (p *Preserved) Sockets() []*Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Socket(nil), p.sockets...)
}

// WithoutSurplus lists those that clients still come to: all but what a SO_REUSEPORT group was steered away from.
func (p *Preserved) WithoutSurplus() []*Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*Socket
	for _, s := range p.sockets {
		if !s.surplus {
			list = append(list, s)
		}
	}
	return list
}

// Claimed lists those that a bind of the new generation was answered with, or that it was started with.
func (p *Preserved) Claimed() []*Socket { return p.filtered(true) }

// Unclaimed lists the others, but for those that are surplus in a SO_REUSEPORT group of which others were claimed, and those that
// the new generation has own sockets for (Tracker.Staged).
func (p *Preserved) Unclaimed() []*Socket { return p.filtered(false) }

func (p *Preserved) filtered(claimed bool) []*Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*Socket
	for _, s := range p.sockets {
		if (s.claimed || s.passed) == claimed && (claimed || !s.surplus && s.staged == nil) {
			list = append(list, s)
		}
	}
	return list
}

// stands tells whether any preserved socket has this address. It is cheap, so
// that a bind elsewhere costs no look into the process.
func (p *Preserved) stands(a sockaddr.Address) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.fd < 0 || s.Key.Address.Family != a.Family {
			continue
		}
		if s.Key.Address == a || s.file != nil && filepath.Base(a.Name) == s.Key.Place.Name {
			return true
		}
	}
	return false
}

// claim calls plant with the first unclaimed socket of this key. Where all are
// claimed it takes the first of which held says that the new generation has let it
// go again: some services bind once to try and once in earnest. It returns
// nil where there is none, and plant's error otherwise: the socket then stays
// as it was.
//
// The lock is held while plant runs, so that nobody closes the descriptor.
func (p *Preserved) claim(k sockaddr.Key, held func(inode uint64) bool, plant func(*Socket) error) (*Socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	chosen := p.first(k, func(s *Socket) bool { return !s.claimed && s.staged == nil })
	if chosen == nil {
		chosen = p.first(k, func(s *Socket) bool { return s.staged == nil && !held(s.Inode) })
	}
	if chosen == nil {
		return nil, nil
	}
	if err := plant(chosen); err != nil {
		return nil, err
	}
	chosen.claimed = true
	return chosen, nil
}

func (p *Preserved) first(k sockaddr.Key, ok func(*Socket) bool) *Socket {
	for _, s := range p.sockets {
		if s.answers(k) && s.fd >= 0 && ok(s) {
			return s
		}
	}
	return nil
}

// answers tells whether the socket may be planted for a key. Of standing sockets TCP answers for MPTCP and the other way round: whoever opened
// the socket chose without knowing the service (huptime and systemd open TCP, Go programs MPTCP, and ask for it), both are reached by the same
// clients, and there is no other socket that the bind could have.
func (s *Socket) answers(k sockaddr.Key) bool {
	if s.standing && s.Key.IsTCP() && k.IsTCP() {
		k.Protocol = s.Key.Protocol
	}
	return s.Key == k
}

// Unclaim takes all claims back: the generation that made them has failed, and another will start.
func (p *Preserved) Unclaim() {
	p.unstage(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		s.claimed, s.passed = false, false
	}
}

// Adopt takes over the sockets of other that it does not have yet. It owns them from now on; what
// it has already is closed in other, which is of no use afterwards.
func (p *Preserved) Adopt(other *Preserved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range other.Sockets() {
		if slices.ContainsFunc(p.sockets, func(own *Socket) bool { return own.Inode == s.Inode }) {
			s.close()
			continue
		}
		p.sockets = append(p.sockets, s)
	}
}

// Deepen lets as many clients wait in the accept queues as the system allows
// (net.core.somaxconn, which cuts the number, see listen(2)), because for a time nobody accepts. The
// next generation's own listen sets the depth that the service wants. Datagrams likewise: up to 16 MiB with CAP_NET_ADMIN, else
// net.core.rmem_max; that depth is the service's again when it serves (ReleaseClaimed).
func (p *Preserved) Deepen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed error
	for _, s := range p.sockets {
		if s.fd < 0 {
			continue
		}
		if err := s.deepen(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s, err))
		}
	}
	return failed
}

// ListenAgain makes those listen that a generation has shut down which has failed: shutdown(2) on a listening socket is for all who share it. What
// waited in the queue is lost. TCP alone can listen again; a unix socket that was shut down stays so.
func (p *Preserved) ListenAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.fd < 0 || !s.Key.IsTCP() {
			continue
		}
		if on, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on == 0 {
			_ = unix.Listen(s.fd, unix.SOMAXCONN)
		}
	}
}

// ReleaseClaimed closes the supervisor's duplicates of claimed sockets: the new
// generation has its own. Unclaimed ones stay open for a late bind.
func (p *Preserved) ReleaseClaimed() {
	for _, s := range p.Claimed() {
		_ = s.flagSettled()
	}
	p.release(func(s *Socket) bool {
		if s.claimed {
			s.owner = nil
		}
		return s.claimed
	})
	p.endSteeringOver()
}

// Close closes every duplicate that is left. Nobody claims these any more: a socket's file that the old generation has removed, as it
// thinks, is removed now. Where a successor serves, call ReleaseClaimed first.
func (p *Preserved) Close() {
	p.closeStaged()
	for _, s := range p.Sockets() {
		if s.staged == nil {
			s.shareNoMore()
		}
	}
	p.release(func(s *Socket) bool {
		if s.claimed && s.owner != nil {
			_ = s.flagRestored() // who has claimed it has failed
		}
		if s.fd >= 0 && !s.standing && s.withheld && s.file.there() {
			_ = s.file.found.Remove() // or it is left, as by a service that was killed
		}
		return true
	})
	p.endSteering()
	p.endConfinement()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old = nil // or each generation would keep its predecessor's state for ever
}

func (p *Preserved) release(which func(*Socket) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.fd >= 0 && which(s) {
			s.undeepen()
			s.close()
		}
	}
}
