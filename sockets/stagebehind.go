package sockets

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// errNotNow: there is no reason to stage this bind, and none to speak of it.
var errNotNow = errors.New("nothing to stage")

// stageable lists the preserved sockets that a socket of the key, made by a user, may stand behind; none
// where there is no such address. The error says why it may not be bound beside them.
func (p *Preserved) stageable(k sockaddr.Key, own callersSocket, switched, gap bool) (list []*Socket, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	overlaps := false
	for _, s := range p.sockets {
		if s.fd < 0 {
			continue
		}
		if !s.answers(k) {
			overlaps = overlaps || s.Key.Overlaps(k)
			continue
		}
		if err := s.stageable(k, own); err != nil {
			return nil, err
		}
		if p.abandoned && !gap || s.claimed || switched && s.staged == nil {
			return nil, errNotNow
		}
		list = append(list, s)
	}
	if len(list) == 0 && overlaps {
		return nil, errNotNow // the bind has to fail, see inTheWay
	}
	return list, nil
}

func (s *Socket) stageable(k sockaddr.Key, own callersSocket) error {
	switch {
	case s.standing:
		return errors.New("huptime holds the socket (--listen)")
	case s.steered:
		return errors.New("the service has attached a program of its own to the SO_REUSEPORT group")
	case s.owner == nil || s.Key != k:
		return errNotNow
	}
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Uid != own.uid {
		return fmt.Errorf("user %d made the old socket and user %d the new one", st.Uid, own.uid)
	}
	if sharesPort(s.fd) {
		return nil
	}
	if k.IsDatagram() {
		return errors.New("the old socket was bound without SO_REUSEPORT: datagrams could be lost")
	}
	// It may get the option late, but its connections have not got it: SO_REUSEADDR is what lets
	// another socket have the port beside those (inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c).
	if on, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR); err != nil || on == 0 || !own.reuses {
		return errors.New("the old socket was bound without SO_REUSEPORT and SO_REUSEADDR: its connections are in the way")
	}
	return nil
}

// stage notes that the generation has sockets of its own in the group of these.
func (p *Preserved) stage(list []*Socket, g *reuseport, by *Tracker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stagedBy = by
	for _, s := range list {
		s.staged = g
	}
}

// confine keeps the clients to the sockets that are in the group, of which these are preserved, before those
// of a new generation come.
func (g *reuseport) confine(old []*Socket, by *Tracker) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var late []*Socket
	for _, s := range old {
		if !sharesPort(s.fd) { // it may also be set when the socket listens (seen on 6.18)
			if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
			late = append(late, s)
		}
		g.of[s.Inode] = s.owner
		g.all.settleIn(s.Inode, g)
		if !slices.Contains(g.handles, s) {
			g.handles = append(g.handles, s)
		}
	}
	g.serving, g.probed = old[0].owner, by
	err := g.refreshed()
	if err == nil {
		return nil
	}
	g.probed = nil
	g.dismiss()
	g.handles = slices.DeleteFunc(g.handles, func(s *Socket) bool { return slices.Contains(old, s) })
	for _, s := range late {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
	}
	return err
}
