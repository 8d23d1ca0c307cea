package sockets

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// bind answers bind(fd, address, length). A bind on the address of a preserved
// socket gets that socket in place of its own, and is not run. Everything else
// runs as it would without huptime; so does what can't be understood: the
// kernel then says what is wrong with it.
func (t *Tracker) bind(r *notify.Request) notify.Reply {
	address, ok := t.asked(r)
	if !ok {
		return notify.Continue()
	}
	place := paths.Place{}
	var found *paths.Found
	if address.Family == unix.AF_UNIX {
		var err error
		if found, err = placeOf(r, address); err != nil {
			t.cannotLook(r, err)
			return notify.Continue()
		}
		if found != nil {
			place = found.Place
		}
	}
	// On every way out, and before the answer, the socket is noted that has the address by then.
	b, later := &binding{t: t, r: r, number: r.FD(), own: -1, address: address, found: found}, false
	defer func() {
		if !later {
			b.note()
			b.close()
		}
	}()
	t.mu.Lock()
	gated := t.gate.standsAt(address)
	t.mu.Unlock()
	if address.Chosen() && address.Family != unix.AF_UNIX {
		t.noteChosen(r)
	}
	shared := t.sharing != nil && address.Family != unix.AF_UNIX
	staging := t.stage.on && (address.Family == unix.AF_INET || address.Family == unix.AF_INET6)
	if address.Chosen() || !gated && !shared && !staging && (t.preserved == nil || !t.preserved.stands(address) && !t.preserved.near(address)) {
		return notify.Continue()
	}
	key, nonblock, own, err := t.wanted(r)
	if own < 0 && err == nil && staging && t.bindAnew(b) {
		later = true // or never: the call comes again
		return notify.Later()
	}
	if err != nil {
		t.cannot(r, err)
		return notify.Continue()
	}
	b.nonblock, b.own = nonblock, own
	if key.Address.Family != address.Family {
		return notify.Continue() // an AF_INET address on an IPv6 socket: EINVAL is the kernel's to say
	}
	key = key.At(address)
	key.Place = place
	if own < 0 && t.preserved != nil {
		key = t.preserved.completed(key)
	}
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil || !r.Valid() {
		return notify.Continue()
	}
	b.key, b.cloexec = key, info.CloseOnExec()
	if gated && t.bindGated(b) {
		b.gated = true
		return notify.Return(0)
	}
	ready := false
	if staging {
		if ready, err = t.stageOne(b); err != nil {
			t.cannot(r, err)
		}
	} else if t.postpones(b) {
		if ready = t.postpone(b); ready && named(key) {
			return notify.Return(0)
		}
	}
	if t.preserved != nil && !ready {
		held := t.holds
		if t.sharing != nil && !t.sharing.own {
			held = b.holds // each copy may claim it once
		}
		s, err := t.preserved.claim(key, held, b.plant)
		if errors.Is(err, errForbidden) {
			t.refused(r, err)
			return notify.Continue() // it says so itself
		}
		if err != nil {
			t.cannot(r, err)
			return notify.Continue()
		}
		if s != nil {
			t.planted(b, s)
			return notify.Return(0)
		}
		if !t.stagesAt(key) { // else the group is confined already, and another copy has joined it
			t.inTheWay(b)
			t.confine(b)
		}
		t.noteJoining(r)
	}
	if shared {
		later = true
		if staging && !t.sharing.own {
			t.comesFirst(b)
		}
		go func() {
			defer b.close()
			t.bindAmongCopies(b)
		}()
		return notify.Later()
	}
	return notify.Continue()
}

// binding is a bind on an address that matters.
type binding struct {
	t        *Tracker
	r        *notify.Request
	number   int              // the caller's descriptor
	address  sockaddr.Address // as it was asked for
	found    *paths.Found     // where the path of a unix address leads; owned until it is noted
	key      sockaddr.Key
	nonblock bool // the caller's socket is non-blocking
	cloexec  bool // its descriptor is close-on-exec
	own      int  // a duplicate of the caller's socket; owned; -1 where it could not be copied
	gated    bool // it was answered with a placeholder
}

func (b *binding) close() {
	if b.own >= 0 {
		unix.Close(b.own)
	}
}

// note notes the socket that the caller has by now: its own, which is about to be bound, or the one that was just planted in its place. It
// must come before the answer, after which the call says nothing any more.
func (b *binding) note() {
	if b.gated {
		boundName{b.address, b.found}.close()
		return
	}
	if b.address.Family == unix.AF_UNIX || b.address.AddrPort.Addr().Zone() != "" { // for the latter see rescope
		b.t.noteBound(b.r, boundName{b.address, b.found})
	}
	if !b.address.Chosen() {
		b.t.noteDatagram(b.r)
		b.t.noteDial(b.r, b.address)
	}
}

// planted notes that a bind was answered with a socket.
func (t *Tracker) planted(b *binding, s *Socket) {
	t.log.Debug("preserved socket planted", slog.Int("generation", t.generation),
		slog.String("address", s.String()), slog.Int("thread", b.r.TID), slog.Int("descriptor", b.r.FD()))
	if s.steered {
		t.noteSteered(s.Inode) // the group keeps its program
	}
	t.nowHas(b, s)
	if s.late {
		t.mu.Lock()
		t.stage.blocking[s.Inode] = struct{}{} // it would seem otherwise at its listen: the flag is there
		t.mu.Unlock()
	}
	if t.sharing != nil {
		if pid, err := proc.Tgid(b.r.TID); err == nil {
			t.sharing.ownerOf(b.key, owner{pid, s.Inode})
		}
	}
	t.mu.Lock()
	t.listened = time.Now() // as good as: it may skip its listen
	t.mu.Unlock()
	ping(t.changed)
}

// holds tells whether the calling process has the socket open.
func (b *binding) holds(inode uint64) bool {
	pid, err := proc.Tgid(b.r.TID)
	if err != nil {
		return true
	}
	holders, opaque := proc.Holders([]int{pid}, map[uint64]struct{}{inode: {}})
	return len(holders[inode]) > 0 || len(opaque) > 0
}

// asked reads and parses the address of a bind. It is not ok where that can't be done.
func (t *Tracker) asked(r *notify.Request) (sockaddr.Address, bool) {
	length := int(int32(r.Args[2]))
	if length <= 0 || length > sockaddr.SizeofStorage {
		return sockaddr.Address{}, false
	}
	buf := make([]byte, length)
	if err := r.ReadMemory(r.Args[1], buf); err != nil {
		if t.preserved != nil || t.sharing != nil {
			t.cannot(r, err)
		}
		return sockaddr.Address{}, false
	}
	address, err := sockaddr.Parse(buf)
	return address, err == nil
}

// noteBound notes what is bound to a unix or link-local address: the caller's own socket, or the one that was just planted in its place. It
// takes ownership of b.
func (t *Tracker) noteBound(r *notify.Request, b boundName) {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok || !r.Valid() {
		b.close()
		return
	}
	t.binds(inode, b)
}

// wanted describes the socket that the caller is about to bind, tells whether it is non-blocking, and returns
// a duplicate of it, which the caller owns, or -1 where the socket could not be copied.
func (t *Tracker) wanted(r *notify.Request) (key sockaddr.Key, nonblock bool, own int, err error) {
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return sockaddr.Key{}, false, -1, err
	}
	fd, err := t.stage.copyCaller(pid, r.FD())
	if fdpass.Denied(err) {
		if fetched, ok := t.takeFetched(r); ok {
			fd, err = fetched, nil
		}
	}
	if fdpass.Denied(err) && t.sharing != nil && t.sharing.own {
		return sockaddr.Key{}, false, -1, fmt.Errorf("cannot set SO_REUSEPORT on a copy's socket (--multi-reuseport): %w", err)
	}
	if fdpass.Denied(err) {
		key, nonblock, err = t.partialKey(r)
		return key, nonblock, -1, err
	}
	if err != nil {
		return sockaddr.Key{}, false, -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if !r.Valid() {
		return sockaddr.Key{}, false, -1, notify.ErrTargetGone
	}
	if t.sharing != nil && t.sharing.own {
		// Before the bind runs: all of a group must have it (socket(7)).
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return sockaddr.Key{}, false, -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if key, err = sockaddr.Describe(fd, r.TID); err != nil {
		return sockaddr.Key{}, false, -1, err
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return key, flags&unix.O_NONBLOCK != 0, fd, err
}

// plant puts the socket in place of the caller's own.
func (b *binding) plant(s *Socket) error {
	if err := b.permitted(s); err != nil {
		return err
	}
	if s.file != nil && !s.file.there() {
		return fmt.Errorf("preserved socket %v: %w", s, errNoFile) // no client would find it
	}
	if err := b.setNonBlock(s); err != nil {
		return err
	}
	aliases := b.aliases()
	if err := b.r.Plant(s.fd, b.number, b.cloexec); err != nil {
		return err
	}
	return aliases.follow(s.fd)
}

// holds tells whether a process of this generation has the socket open. One that
// can't be looked into may.
func (t *Tracker) holds(inode uint64) bool {
	holders, opaque := proc.Holders(t.pids(), map[uint64]struct{}{inode: {}})
	return len(holders[inode]) > 0 || len(opaque) > 0
}
