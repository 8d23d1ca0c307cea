package sockets

import (
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// A plant changes O_NONBLOCK for both generations where the new version wants it otherwise than the old one: it belongs to the open file
// description. What the new one wants shows at its listen only: many make the socket blocking, bind it and set the flag afterwards (Python's
// asyncio does). So such a bind runs, on a socket of its own beside the preserved one (SO_REUSEPORT), and at the listen the preserved one is
// planted if both are of one mind by then; else the generation keeps its own, staged.
//
// Some set the flag when they listen already (redis does). Of a service that has done so the next version is taken to do it too: its socket is
// planted at the bind, and the flag stays as it is.

// postpones tells whether a bind is to run so, or, of a unix socket, to be answered so (postponepath.go).
func (t *Tracker) postpones(b *binding) bool {
	if t.preserved == nil || b.own < 0 || t.sharing != nil {
		return false
	}
	if named(b.key) {
		return t.postponesPath(b)
	}
	if t.stage.on || !b.key.IsTCP() || !b.key.Shareable() {
		return false
	}
	s := t.preserved.unclaimed(b.key)
	switch {
	case s == nil:
		return false
	case s.dialed:
		return true
	case sharesPort(b.own):
		return false // the sockets of a group are claimed one by one, at their binds
	}
	return !s.late && !(b.nonblock && s.NonBlock)
}

// noteFlag notes, at the listen of a socket, that it is blocking yet. t.mu is not held.
func (t *Tracker) noteFlag(r *notify.Request, inode uint64) {
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil || info.Flags&unix.O_NONBLOCK != 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stage.blocking[inode] = struct{}{}
}

// setsFlagLate tells whether a socket that is non-blocking now was blocking when the service listened on it.
func (t *Tracker) setsFlagLate(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.stage.blocking[inode]
	return ok
}

// unclaimed is the first unclaimed socket of a key, or nil.
func (p *Preserved) unclaimed(k sockaddr.Key) *Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first(k, func(s *Socket) bool { return !s.claimed && s.staged == nil })
}

// postpone lets the bind run on the caller's own socket, but for that of a unix socket, of which nothing is done yet. It is not ok
// where the kernel would not have it beside the preserved one.
func (t *Tracker) postpone(b *binding) bool {
	own, err := b.socketOfCaller()
	if err != nil || !t.mayPostpone() {
		return false
	}
	if named(b.key) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.stage.postponed[own.inode] = b.key
		return true
	}
	list, why := t.preserved.stageable(b.key, own, false, t.inGap)
	if why != nil || len(list) == 0 {
		return false
	}
	for _, s := range list {
		if s.share() != nil {
			return false
		}
	}
	if !own.shares && b.setShared(1) != nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stage.postponed[own.inode] = b.key
	if !own.shares {
		t.stage.set[own.inode] = struct{}{}
	}
	return true
}

// maxPostponed is how many sockets may be bound so and not listened on.
const maxPostponed = 64

func (t *Tracker) mayPostpone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.stage.postponed) < maxPostponed
}

// decide ends what postpone has begun: the caller is about to listen. It tells whether the preserved socket was planted.
func (t *Tracker) decide(r *notify.Request, inode uint64) (planted bool) {
	t.mu.Lock()
	key, ok := t.stage.postponed[inode]
	delete(t.stage.postponed, inode)
	before := t.stage.decided[inode]
	t.mu.Unlock()
	if before != nil {
		return t.decidedBefore(r, before)
	}
	if !ok {
		return false
	}
	b, ok := t.bindingOf(r, key)
	if !ok {
		return false
	}
	defer b.close()
	// At a name of a unix socket there can be no second one.
	if s := t.preserved.unclaimed(key); !named(key) && (s == nil || s.NonBlock != b.nonblock && !t.inGap) {
		if _, err := t.stageOne(b); err != nil {
			t.cannot(r, err)
		}
		return false
	}
	s, err := t.preserved.claim(key, t.holds, b.plant)
	if err != nil {
		t.cannot(r, err)
		return false
	}
	if s != nil {
		s.shareNoMore()
		t.nameMoves(inode, s.Inode)
		t.planted(b, s)
		t.mu.Lock()
		t.stage.decided[inode] = s
		t.mu.Unlock()
	}
	return s != nil
}

// decidedBefore plants what was planted for another process that has the caller's socket too: where a master binds and its workers listen
// (uvicorn's do), each listens on what it has inherited.
func (t *Tracker) decidedBefore(r *notify.Request, s *Socket) (planted bool) {
	b, ok := t.bindingOf(r, s.Key)
	if !ok {
		return false
	}
	defer b.close()
	if err := b.plant(s); err != nil {
		t.cannot(r, err)
		return false
	}
	t.planted(b, s)
	return true
}

// bindingOf describes what a caller has bound that is about to listen. The caller closes it.
func (t *Tracker) bindingOf(r *notify.Request, key sockaddr.Key) (*binding, bool) {
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return nil, false
	}
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil {
		return nil, false
	}
	fd, err := t.stage.copyCaller(pid, r.FD())
	if err != nil {
		return nil, false
	}
	return &binding{t: t, r: r, number: r.FD(), key: key, own: fd, nonblock: info.Flags&unix.O_NONBLOCK != 0, cloexec: info.CloseOnExec()}, true
}

// holdAccept lets a blocking accept wait until the socket is blocking: until its predecessor is off it. The goroutine ends with the
// generation, or before.
func (t *Tracker) holdAccept(r *notify.Request, s *Socket) notify.Reply {
	t.log.Debug("accept waits for the switch", slog.Int("generation", t.generation), slog.Int("thread", r.TID))
	go func() {
		const look = 2 * time.Millisecond
		for r.Valid() {
			if s.flagPending() == nil {
				break
			}
			time.Sleep(look)
		}
		r.Answer(notify.Continue())
	}()
	return notify.Later()
}

// share lets another socket be bound beside this one, as long as no connection keeps it from that.
func (s *Socket) share() error {
	s.release.Lock()
	defer s.release.Unlock()
	if s.fd < 0 {
		return os.ErrClosed
	}
	if sharesPort(s.fd) {
		return nil
	}
	s.shared = true
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// shareNoMore takes back what share has done, where nothing came of it.
func (s *Socket) shareNoMore() {
	s.release.Lock()
	defer s.release.Unlock()
	if s.shared && s.fd >= 0 {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
	}
	s.shared = false
}
