package sockets

import (
	"log/slog"
	"sync"
	"time"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// sharing is how several copies of the service in one generation come to one address (--multi): the first
// bind makes the socket, and the others get it planted; or each has a socket of its own in one SO_REUSEPORT group.
type sharing struct {
	copies int
	own    bool // each has its own

	mu    sync.Mutex
	first map[sockaddr.Key]owner // who made the socket of this key
}

// owner is the process that was let bind an address, with the socket that it bound.
type owner struct {
	pid   int
	inode uint64
}

// How long a copy's bind waits for the copy that came first to listen, and how often it looks.
const (
	shareLimit = 10 * time.Second
	shareLook  = 5 * time.Millisecond
)

// bindAmongCopies answers a bind that no preserved socket stands for. It runs on a goroutine of its own, because it waits for another copy, and
// for the keeper, which may wait for the listener.
func (t *Tracker) bindAmongCopies(b *binding) {
	if t.sharing.own {
		if s := t.plantOrphan(b); s != nil {
			t.planted(b, s)
			b.answer(notify.Return(0))
			return
		}
		b.answer(notify.Continue()) // with SO_REUSEPORT set
		return
	}
	limit := time.Now().Add(shareLimit)
	for b.r.Valid() && time.Now().Before(limit) {
		if reply, done := t.joinCopies(b); done {
			b.answer(reply)
			return
		}
		time.Sleep(shareLook)
	}
	t.log.Warn("a copy has bound an address and does not listen on it: another copy's bind runs untouched",
		slog.Int("generation", t.generation), slog.String("address", b.key.String()))
	b.answer(notify.Continue())
}

// answer notes the socket and answers.
func (b *binding) answer(reply notify.Reply) {
	b.note()
	b.r.Answer(reply)
}

// joinCopies lets the first bind of an address run, and plants its socket for the others. It is not done where the
// first does not listen yet.
func (t *Tracker) joinCopies(b *binding) (reply notify.Reply, done bool) {
	pid, err := proc.Tgid(b.r.TID)
	if err != nil {
		return notify.Continue(), true
	}
	inode, ok, err := proc.DescriptorSocket(b.r.TID, b.r.FD())
	if err != nil || !ok || !b.r.Valid() {
		return notify.Continue(), true
	}
	self := owner{pid, inode}
	o := t.sharing.ownerOf(b.key, self)
	if o.pid == pid {
		return notify.Continue(), true
	}
	planted, err := t.plantKept(b, o.inode)
	switch {
	case err != nil:
		t.cannot(b.r, err)
		return notify.Continue(), true
	case planted:
		return notify.Return(0), true
	case t.hasOpen(o):
		return notify.Reply{}, false
	}
	replaced := t.sharing.replace(b.key, o, self)
	if replaced && t.stage.on && b.own >= 0 {
		// At first it was to join the other copy's socket, and is not prepared to be bound beside the old generation's.
		if _, err := t.stageOne(b); err != nil {
			t.cannot(b.r, err)
		}
	}
	return notify.Continue(), replaced
}

// comesFirst makes the caller the one that makes the socket of a key, unless another copy is. It is called in the order of the calls: what a bind is
// prepared for on the stage depends on it.
func (t *Tracker) comesFirst(b *binding) {
	pid, err := proc.Tgid(b.r.TID)
	if err != nil {
		return
	}
	if inode, ok, err := proc.DescriptorSocket(b.r.TID, b.r.FD()); err == nil && ok && b.r.Valid() {
		t.sharing.ownerOf(b.key, owner{pid, inode})
	}
}

// ownerOf returns who made the socket of a key: candidate, where nobody has yet.
func (s *sharing) ownerOf(k sockaddr.Key, candidate owner) owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.first[k]; !ok {
		s.first[k] = candidate
	}
	return s.first[k]
}

// replace makes by the owner, unless somebody else has become it meanwhile.
func (s *sharing) replace(k sockaddr.Key, old, by owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first[k] != old {
		return false
	}
	s.first[k] = by
	return true
}

func (t *Tracker) hasOpen(o owner) bool {
	holders, opaque := proc.Holders([]int{o.pid}, map[uint64]struct{}{o.inode: {}})
	return len(holders) > 0 || len(opaque) > 0
}

// plantKept plants the kept socket with this inode, if there is one.
func (t *Tracker) plantKept(b *binding, inode uint64) (bool, error) {
	t.keeping.Lock()
	defer t.keeping.Unlock()
	k := t.kept[inode]
	if k == nil {
		return false, nil
	}
	if err := b.plant(k.socket); err != nil {
		return false, err
	}
	t.log.Debug("socket of another copy planted", slog.Int("generation", t.generation), slog.String("address", b.key.String()), slog.Int("thread", b.r.TID))
	return true, nil
}

// plantOrphan plants a kept socket of this key that no process has: its copy has died, and clients wait in its queue.
func (t *Tracker) plantOrphan(b *binding) *Socket {
	t.keeping.Lock()
	defer t.keeping.Unlock()
	for inode, k := range t.kept {
		if k.socket.Key == b.key && !stillHolds(k.holder, inode) && !t.holds(inode) && b.plant(k.socket) == nil {
			return k.socket
		}
	}
	return nil
}
