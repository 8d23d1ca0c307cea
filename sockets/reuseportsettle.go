package sockets

import (
	"slices"
	"time"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/fdpass"
)

// settle is called when what the sockets were preserved for is over, and the generation that had them, unless
// it serves on. It closes the supervisor's duplicates, and with them the sockets, if nobody else has them.
// The program stays only where yet another generation is in the group.
func (g *reuseport) settle(sockets []*Socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.look()
	if slices.ContainsFunc(sockets, func(s *Socket) bool { return g.of[s.Inode] == g.serving }) {
		// The old generation serves on, and nothing leaves the group but what one that has failed has there.
		g.probed = nil
		g.finishBy(sockets[0].twin())
		g.release(sockets)
		return
	}
	held := g.ofServing()
	if held != nil {
		g.handles = append(g.handles, held)
	}
	for _, s := range sockets {
		g.addBuffer(s)
		_ = g.attach(true)
		g.release([]*Socket{s})
		_ = g.look()
	}
	g.finishBy(held) // the buffers stay as long as sockets leave
}

// finishBy is finish now, if possible, or in a moment: a process closes its descriptors after it was heard
// that it ends (do_exit in kernel/exit.c). It takes ownership of held, a socket of the generation that
// serves; nil where there is none. g.mu is held.
func (g *reuseport) finishBy(held *Socket) {
	if held != nil && !slices.Contains(g.handles, held) {
		g.handles = append(g.handles, held)
	}
	g.finish()
	if held == nil {
		g.dismiss()
		return
	}
	if !g.even() {
		var leaving []uint64
		for _, inode := range g.array {
			if by, ours := g.of[inode]; ours && by != g.serving {
				leaving = append(leaving, inode)
			}
		}
		go g.finishLater(held, leaving)
		return
	}
	g.release([]*Socket{held})
	g.forgetGone()
}

// contains tells whether a socket is in the group. g.mu is held.
func (g *reuseport) contains(inode uint64) bool { return slices.Contains(g.array, inode) }

// has tells whether a socket of the generation's is known. g.mu is held.
func (g *reuseport) has(t *Tracker) bool {
	for _, by := range g.of {
		if by == t {
			return true
		}
	}
	return false
}

// twin is another duplicate of a preserved socket, which the caller owns; nil where it is closed.
func (s *Socket) twin() *Socket {
	fd, ok := s.copy()
	if !ok {
		return nil
	}
	return &Socket{Key: s.Key, Inode: s.Inode, fd: fd}
}

// finishLater is finish when sockets of those who are over have left the group. It owns held, a socket of the
// generation that serves, and ends by itself.
func (g *reuseport) finishLater(held *Socket, leaving []uint64) {
	const limit = 10 * time.Second
	wait := time.Millisecond
	for began := time.Now(); time.Since(began) < limit; wait = min(2*wait, longestPoll) {
		time.Sleep(wait)
		g.mu.Lock()
		before := len(g.array)
		done := g.look() == nil && !slices.ContainsFunc(leaving, g.contains)
		if done || len(g.array) != before {
			g.finish()
		}
		g.mu.Unlock()
		if done {
			break
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release([]*Socket{held})
	g.forgetGone()
}

// forgetGone forgets the sockets of generations that are over. g.mu is held.
func (g *reuseport) forgetGone() {
	for inode, by := range g.of {
		held := slices.ContainsFunc(g.handles, func(s *Socket) bool { return s.Inode == inode })
		if by.gone() && !held && !g.contains(inode) {
			g.drop(inode)
		}
	}
}

// release closes preserved sockets. g.mu is held.
func (g *reuseport) release(sockets []*Socket) {
	for _, s := range sockets {
		s.undeepen()
		s.close()
	}
	g.disown(sockets)
}

// disown attaches no more programs by these. g.mu is held.
func (g *reuseport) disown(sockets []*Socket) {
	g.handles = slices.DeleteFunc(g.handles, func(s *Socket) bool { return slices.Contains(sockets, s) })
}

// finish ends the steering, or brings it in step. g.mu is held.
func (g *reuseport) finish() {
	if g.even() {
		g.detach()
	} else {
		_ = g.attach(false)
	}
}

// ofServing copies a socket of the generation that serves, which the caller owns. g.mu is held.
func (g *reuseport) ofServing() *Socket {
	if g.serving == nil {
		return nil
	}
	wanted := make(map[uint64]struct{})
	for inode, by := range g.of {
		if by == g.serving && slices.Contains(g.array, inode) {
			wanted[inode] = struct{}{}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	holders, _ := proc.Holders(g.serving.pids(), wanted)
	for inode, list := range holders {
		for _, h := range list {
			if fd, err := g.serving.copyOf(h.PID, h.FD, fdpass.Socket); err == nil {
				return &Socket{Key: g.key, Inode: inode, fd: fd}
			}
		}
	}
	return nil
}
