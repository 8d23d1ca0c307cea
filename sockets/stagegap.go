package sockets

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// In a gap no generation serves, and clients wait in the preserved sockets. A staged generation that starts there has sockets of its own beside
// them, in groups that send everybody to the preserved ones; when it is ready it is given those in exchange.

// TakeQueues gives a generation that was started in a gap, and is ready, the preserved sockets in place of its own. For others it does nothing. On an
// error clients go on to wait, and the generation does not serve them.
func (t *Tracker) TakeQueues(ctx context.Context) error {
	_, err := t.LetIn(ctx)
	return err
}

// LetIn is TakeQueues before the generation is ready. It tells whether anything was taken.
func (t *Tracker) LetIn(ctx context.Context) (taken bool, err error) {
	if !t.inGap {
		return false, nil
	}
	pairs := make(map[uint64]*Socket)
	used := make(map[*Socket]bool)
	for _, inode := range t.listeningInodes() {
		if s := t.waitingBeside(inode, used); s != nil {
			if err := t.likeOwn(s, inode); err != nil {
				return false, fmt.Errorf("cannot give it the socket in which clients wait: %w", err)
			}
			pairs[inode], used[s] = s, true
		}
	}
	if len(pairs) == 0 {
		return false, nil
	}
	if err := t.exchangeFor(ctx, pairs); err != nil {
		t.knocks.unexchangeable.Store(true) // the next start is planted
		return false, fmt.Errorf("cannot give it the sockets in which clients wait: %w", err)
	}
	groups := t.stagedGroups()
	t.mu.Lock()
	for inode, s := range pairs {
		delete(t.stage.mine, inode)
		t.stage.mine[s.Inode] = ownSocket{key: s.Key, planted: true}
	}
	clear(t.stage.groups)
	t.mu.Unlock()
	t.preserved.taken(used)
	for _, g := range groups {
		g.givenTo(t, used)
	}
	return true, nil
}

// waitingBeside is a preserved socket that may be exchanged for one of the generation's own; nil where there is none.
func (t *Tracker) waitingBeside(inode uint64, used map[*Socket]bool) *Socket {
	t.mu.Lock()
	own, ok := t.stage.mine[inode]
	t.mu.Unlock()
	if !ok || own.planted {
		return nil
	}
	for _, s := range t.Staged() {
		if s.Key == own.key && !used[s] {
			return s
		}
	}
	return nil
}

// likeOwn makes a preserved socket, which nobody has now, as blocking as the generation's own one is.
func (t *Tracker) likeOwn(s *Socket, inode uint64) error {
	holders, _ := proc.Holders(t.pids(), map[uint64]struct{}{inode: {}})
	for _, h := range holders[inode] {
		info, err := proc.ReadFDInfo(h.PID, h.FD)
		if err != nil {
			continue
		}
		fd, ok := s.copy()
		if !ok {
			return os.ErrClosed
		}
		defer unix.Close(fd)
		return os.NewSyscallError("fcntl", unix.SetNonblock(fd, info.Flags&unix.O_NONBLOCK != 0))
	}
	return nil
}

// taken notes that the sockets are claimed.
func (p *Preserved) taken(sockets map[*Socket]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range sockets {
		s.claimed, s.staged = true, nil
	}
}

// givenTo notes that preserved sockets of the group are a generation's, to which all clients come now.
func (g *reuseport) givenTo(t *Tracker, sockets map[*Socket]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []*Socket
	for s := range sockets {
		if s.Key == g.key {
			g.of[s.Inode] = t
			list = append(list, s)
		}
	}
	g.serving, g.probed = t, nil
	if g.look() == nil {
		g.finish()
	}
	g.disown(list)
}
