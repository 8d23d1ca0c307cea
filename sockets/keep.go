package sockets

import (
	"log/slog"
	"time"

	"github.com/huptime/huptime/internal/proc"
)

// How often the kept sockets are looked at. A listen that was let through has happened a moment later; a
// socket that the service closes is let go after two looks that did not find it, within one second.
const (
	shortestKeepInterval = 2 * time.Millisecond
	longestKeepInterval  = 400 * time.Millisecond
)

// kept is a socket that is held for the sudden end of its generation.
type kept struct {
	socket *Socket
	holder proc.Holder // who had it when it was last looked for
	misses int         // looks in a row that found it with nobody
}

// Keep holds a duplicate of every listening socket of the generation until ended is
// closed, so that clients can wait in the accept queues after the service's sudden end. One that the service closes by
// itself is let go within a second.
func (t *Tracker) Keep(ended <-chan struct{}) {
	own, err := ownNamespace()
	if err != nil {
		t.log.Error("cannot keep the listening sockets", slog.Int("generation", t.generation), slog.String("error", err.Error()))
		return
	}
	pause := shortestKeepInterval
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ended:
			return
		case <-t.toKeep:
			pause = shortestKeepInterval
		case <-timer.C:
			pause = min(2*pause, longestKeepInterval)
		}
		t.lookAfter(own, pause == longestKeepInterval)
		timer.Reset(pause)
	}
}

// TakeKept ends Keep and hands over what it holds; nil where that is nothing. The caller owns it.
func (t *Tracker) TakeKept() *Preserved {
	t.keeping.Lock()
	defer t.keeping.Unlock()
	t.taken = true
	p := &Preserved{old: t}
	for _, inode := range t.listeningInodes() {
		if k := t.kept[inode]; k != nil {
			p.sockets = append(p.sockets, k.socket)
			delete(t.kept, inode)
		}
	}
	for _, k := range t.kept { // closed by the service a moment ago
		k.socket.close()
	}
	t.kept = nil
	if len(p.sockets) == 0 {
		return nil
	}
	return p
}

// lookAfter keeps what is new and, where final says that a miss counts, lets go what the service has closed.
func (t *Tracker) lookAfter(own uint64, final bool) {
	t.keeping.Lock()
	defer t.keeping.Unlock()
	if t.taken {
		return
	}
	wanted := make(map[uint64]struct{})
	for _, inode := range t.serviceInodes() {
		// One readlink where nothing has changed.
		if k := t.kept[inode]; k == nil || !stillHolds(k.holder, inode) {
			wanted[inode] = struct{}{}
		}
	}
	if len(wanted) == 0 {
		return
	}
	pids := t.pids()
	if len(pids) == 0 {
		return // this is the end that they are kept for
	}
	holders, opaque := proc.Holders(pids, wanted)
	for inode := range wanted {
		k := t.kept[inode]
		switch {
		case k == nil && len(holders[inode]) > 0:
			s, err := t.collectFrom(holders[inode], inode, own)
			if err == nil {
				t.kept[inode] = &kept{socket: s, holder: holders[inode][0]}
				t.log.Debug("listening socket kept", slog.Int("generation", t.generation), slog.String("address", s.String()))
			}
		case k != nil && len(holders[inode]) > 0:
			k.holder, k.misses = holders[inode][0], 0
		case k == nil && len(opaque) == 0 && final:
			t.forget(inode) // its listen has failed, or it was closed at once
		case k != nil && len(opaque) == 0 && final:
			// A process that is being killed has closed its descriptors a moment before it is gone: hence twice.
			if k.misses++; k.misses > t.patience(k) {
				k.socket.close()
				delete(t.kept, inode)
				t.forget(inode)
				t.log.Info("the service has closed a listening socket", slog.Int("generation", t.generation), slog.String("address", k.socket.String()))
			}
		}
	}
}

// patience is how many looks may miss a socket before it is let go. Where each copy of the service has
// sockets of its own, those of one that has died wait for it to be started again.
func (t *Tracker) patience(k *kept) int {
	const once, whileItIsRevived = 1, int(10 * time.Second / longestKeepInterval)
	if t.sharing == nil || !t.sharing.own {
		return once
	}
	if st, err := proc.ReadStat(k.holder.PID); err == nil && st.State != 'Z' {
		return once
	}
	return whileItIsRevived
}

func stillHolds(h proc.Holder, inode uint64) bool {
	now, ok, err := proc.DescriptorSocket(h.PID, h.FD)
	return err == nil && ok && now == inode
}
