package sockets

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// steer notes that the service attaches a program of its own to the SO_REUSEPORT group of a socket. The call runs.
func (t *Tracker) steer(r *notify.Request) notify.Reply {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok || !r.Valid() {
		return notify.Continue()
	}
	t.noteSteered(inode)
	if g := t.knocks.ports.home(inode); g != nil {
		g.giveWay()
	}
	if t.preserved != nil {
		t.preserved.nowSteered(inode, addressAt(r))
	}
	return notify.Continue()
}

// addressAt is what the caller's socket is bound to; none where that can't be told.
func addressAt(r *notify.Request) sockaddr.Address {
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return sockaddr.Address{}
	}
	fd, err := fdpass.CopySocket(pid, r.FD())
	if err != nil {
		return sockaddr.Address{}
	}
	defer unix.Close(fd)
	name, err := unix.Getsockname(fd)
	if err != nil {
		return sockaddr.Address{}
	}
	address, _ := sockaddr.Of(name)
	return address
}

// nowSteered notes that a generation attaches its own program to a group that it may have of these: what is attached from now on is not the
// supervisor's to take away or to replace.
func (p *Preserved) nowSteered(inode uint64, address sockaddr.Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.Inode == inode || s.Key.Address == address {
			s.steered = true
			address = s.Key.Address
		}
	}
	for k, s := range p.confined {
		if k.Address == address {
			unix.Close(s.fd)
			delete(p.confined, k)
		}
	}
}

func (t *Tracker) noteSteered(inode uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.steered) < maxSteered {
		t.steered[inode] = struct{}{}
	}
}

// confine sees to it that what the caller is about to bind gets no clients before the generation is ready, where the old one has sockets of this
// key.
func (t *Tracker) confine(b *binding) {
	t.mu.Lock()
	starting := t.starting
	t.mu.Unlock()
	if !starting {
		return
	}
	if err := t.preserved.confine(b.key); err != nil {
		t.log.Warn("a SO_REUSEPORT group grows before the new generation is ready; if that one fails, what waits in its sockets is reset",
			slog.Int("generation", t.generation), slog.String("address", b.key.String()), slog.String("error", err.Error()))
	}
}

// maxSteered bounds what is remembered; a service has one program for each of its groups, or one for each of their sockets.
const maxSteered = 4096

// isSteered tells whether the service has steered the group of a socket by it.
func (t *Tracker) isSteered(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.steered[inode]
	return ok
}
