package sockets

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
)

// rejoin plants the preserved socket in place of the caller's own, which is about to listen, where the old
// generation has ended meanwhile: clients wait in the preserved one, and nobody else will serve them. It
// tells whether it did.
func (t *Tracker) rejoin(r *notify.Request, inode uint64) (planted bool) {
	s := t.standsFor(inode)
	if s == nil || t.inGap || !t.preserved.isAbandoned() {
		return false
	}
	t.mu.Lock()
	own, g := t.stage.mine[inode], t.stage.groups[s.Key]
	t.mu.Unlock()
	if own.asked || g.reuseport == nil || g.listens(t) {
		return false // it has some that clients come to, see takeOver
	}
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return false
	}
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil {
		return false
	}
	fd, err := t.stage.copyCaller(pid, r.FD())
	if err != nil {
		fd = -1
	}
	b := &binding{t: t, r: r, number: r.FD(), key: s.Key, own: fd,
		nonblock: info.Flags&unix.O_NONBLOCK != 0, cloexec: info.CloseOnExec()}
	defer b.close()
	t.leave(g)
	t.mu.Lock()
	delete(t.stage.mine, inode)
	t.mu.Unlock()
	if s, err = t.preserved.claim(s.Key, t.holds, b.plant); err != nil {
		t.cannot(r, err)
	} else if s != nil {
		t.planted(b, s)
		t.log.Info("clients wait in the old socket: the new generation gets it",
			slog.Int("generation", t.generation), slog.String("address", s.String()))
	}
	return err == nil && s != nil
}

// listens tells whether a generation has sockets in the group.
func (g *reuseport) listens(t *Tracker) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.look() == nil && len(g.indexes(t)) > 0
}
