package sockets

import (
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
	"huptime/notify"
)

// bind answers bind(fd, address, length). A bind on the address of a preserved
// socket gets that socket in place of its own, and is not run. Everything else
// runs as it would without huptime; so does what can't be understood: the
// kernel then says what is wrong with it.
func (t *Tracker) bind(r *notify.Request) notify.Reply {
	if t.preserved == nil {
		return notify.Continue()
	}
	length := int(int32(r.Args[2]))
	if length <= 0 || length > sizeofSockaddrStorage {
		return notify.Continue()
	}
	buf := make([]byte, length)
	if err := r.ReadMemory(r.Args[1], buf); err != nil {
		t.cannot(r, err)
		return notify.Continue()
	}
	address, err := ParseSockaddr(buf)
	if err != nil || address.Port() == 0 || !t.preserved.stands(address) {
		return notify.Continue()
	}
	key, nonblock, whole, err := t.wanted(r)
	if err != nil {
		t.cannot(r, err)
		return notify.Continue()
	}
	if key.Address.Family != address.Family {
		return notify.Continue() // an AF_INET address on an IPv6 socket: EINVAL is the kernel's to say
	}
	if key = key.at(address); !whole {
		key = t.preserved.completed(key)
	}
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil || !r.Valid() {
		return notify.Continue()
	}
	s, err := t.preserved.claim(key, t.holds, func(s *Socket) error {
		return plant(r, s, nonblock, info.Flags&unix.O_CLOEXEC != 0)
	})
	if err != nil {
		t.cannot(r, err)
		return notify.Continue()
	}
	if s == nil {
		return notify.Continue()
	}
	t.log.Debug("preserved socket planted", slog.Int("generation", t.generation),
		slog.String("address", key.String()), slog.Int("thread", r.TID), slog.Int("descriptor", r.FD()))
	ping(t.changed)
	return notify.Return(0)
}

// wanted describes the socket that the caller is about to bind, and tells whether it
// is non-blocking. It is not whole where the socket could not be copied.
func (t *Tracker) wanted(r *notify.Request) (key Key, nonblock, whole bool, err error) {
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return Key{}, false, false, err
	}
	fd, err := duplicate(pid, r.FD())
	if denied(err) {
		key, nonblock, err = t.glimpse(r)
		return key, nonblock, false, err
	}
	if err != nil {
		return Key{}, false, false, err
	}
	defer unix.Close(fd)
	if !r.Valid() {
		return Key{}, false, false, notify.ErrTargetGone
	}
	if key, err = describe(fd, r.TID); err != nil {
		return Key{}, false, false, err
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return key, flags&unix.O_NONBLOCK != 0, true, err
}

// plant puts the socket in place of the caller's own. O_NONBLOCK belongs to the
// open file description, which both generations share: where the new version
// wants it otherwise than the old one had it, the new version gets its way.
func plant(r *notify.Request, s *Socket, nonblock, cloexec bool) error {
	if nonblock != s.NonBlock {
		if err := unix.SetNonblock(s.fd, nonblock); err != nil {
			return err
		}
	}
	return r.Plant(s.fd, r.FD(), cloexec)
}

// holds tells whether a process of this generation has the socket open. One that
// can't be looked into may.
func (t *Tracker) holds(inode uint64) bool {
	holders, opaque := proc.Holders(t.pids(), map[uint64]struct{}{inode: {}})
	return len(holders[inode]) > 0 || len(opaque) > 0
}

// cannot logs why a call could not be looked at and runs untouched. A caller that is gone, or a
// socket of another kind, is no news.
func (t *Tracker) cannot(r *notify.Request, err error) {
	if errors.Is(err, notify.ErrTargetGone) || errors.Is(err, errNotPreservable) || errors.Is(err, unix.ESRCH) {
		return
	}
	t.log.Warn("cannot look at a call, which runs untouched", slog.Int("generation", t.generation),
		slog.String("call", r.String()), slog.String("error", err.Error()))
}
