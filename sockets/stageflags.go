package sockets

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
	"huptime/notify"
)

// Where a new version binds a socket that is blocking and the old one's is not, or the other way round, a plant would change the flag for both:
// O_NONBLOCK belongs to the open file description. What the new one wants shows at its listen only: many make the socket blocking, bind it and
// set the flag afterwards (Python's asyncio does). So the bind runs, on a socket of its own beside the preserved one (SO_REUSEPORT), and
// at the listen the preserved one is planted if both are of one mind by then; else the generation keeps its own, staged.

// flagDiffers tells whether a bind is to run so.
func (t *Tracker) flagDiffers(b *binding) bool {
	if t.stage.on || t.preserved == nil || b.own < 0 || !b.key.isTCP() || !b.key.stageable() || t.sharing != nil {
		return false
	}
	s := t.preserved.unclaimed(b.key)
	return s != nil && s.NonBlock != b.nonblock
}

// unclaimed is the first unclaimed socket of a key, or nil.
func (p *Preserved) unclaimed(k Key) *Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first(k, func(s *Socket) bool { return !s.claimed && s.staged == nil })
}

// postpone lets the bind run on the caller's own socket. It is not ok where the kernel would not have it beside the preserved one.
func (t *Tracker) postpone(b *binding) bool {
	own, err := b.socketOfCaller()
	if err != nil {
		return false
	}
	list, why := t.preserved.stageable(b.key, own, false)
	if why != nil || len(list) == 0 {
		return false
	}
	for _, s := range list {
		if fd, ok := s.copy(); ok {
			err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			unix.Close(fd)
			if err != nil {
				return false
			}
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

// decide ends what postpone has begun: the caller is about to listen. It tells whether the preserved socket was planted.
func (t *Tracker) decide(r *notify.Request, inode uint64) (planted bool) {
	t.mu.Lock()
	key, ok := t.stage.postponed[inode]
	delete(t.stage.postponed, inode)
	t.mu.Unlock()
	if !ok {
		return false
	}
	b, ok := t.bindingOf(r, key)
	if !ok {
		return false
	}
	defer b.close()
	if s := t.preserved.unclaimed(key); s == nil || s.NonBlock != b.nonblock {
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
		t.planted(b, s)
	}
	return s != nil
}

// bindingOf describes what a caller has bound that is about to listen. The caller closes it.
func (t *Tracker) bindingOf(r *notify.Request, key Key) (*binding, bool) {
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
	return &binding{t: t, r: r, key: key, own: fd, nonblock: info.Flags&unix.O_NONBLOCK != 0, cloexec: info.CloseOnExec()}, true
}

// holdAccept lets a blocking accept wait until the socket is blocking: until its predecessor is off it. The goroutine ends with the
// generation, or before.
func (t *Tracker) holdAccept(r *notify.Request, s *Socket) notify.Reply {
	t.log.Debug("accept waits for the switch", slog.Int("generation", t.generation), slog.Int("thread", r.TID))
	go func() {
		const look = 2 * time.Millisecond
		for r.Valid() {
			if _, pending := s.flagPending(); !pending {
				break
			}
			time.Sleep(look)
		}
		r.Answer(notify.Continue())
	}()
	return notify.Later()
}
