package sockets

import (
	"slices"
	"time"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// What a generation listens on after it was ready may be a session's own: a passive port of FTP, a port that a client is told to call back. Such
// a socket belongs to the client that it was opened for. It is not preserved, not waited for and not planted: its number may be another
// session's in the next generation. But services also open addresses late, after their data are loaded, or when they are told to. What
// tells them apart is how long they stay, and whose they are: see serviceInodes.

// lateListener is a socket that the generation has listened on after it was ready.
type lateListener struct{ since time.Time }

// How long a late socket must have been open to count as the service's, where the generation has never closed one, and where it has: a
// generation whose late sockets come and go has sessions.
const (
	lateAge    = time.Second
	sessionAge = 10 * time.Second
)

// noteLate notes a socket that was listened on after the generation was ready. t.mu is held.
func (t *Tracker) noteLate(inode uint64) {
	t.late[inode] = lateListener{time.Now()}
}

// sweepLate forgets late sockets that nobody has any more: they were sessions'.
func (t *Tracker) sweepLate() {
	t.mu.Lock()
	late := make(map[uint64]struct{}, len(t.late))
	for inode := range t.late {
		late[inode] = struct{}{}
	}
	t.mu.Unlock()
	if len(late) == 0 {
		return
	}
	defer func() {
		t.mu.Lock()
		t.sweepLateAt = max(minSweep, 2*len(t.late))
		t.mu.Unlock()
	}()
	holders, opaque := proc.Holders(t.pids(), late)
	open, err := listening(late)
	if err != nil {
		return
	}
	for inode := range late {
		if len(holders[inode]) > 0 || len(opaque) > 0 && len(late) <= maxUnseen {
			continue
		}
		if _, ok := open[inode]; ok {
			continue // in a message (SCM_RIGHTS)
		}
		t.mu.Lock()
		delete(t.late, inode)
		t.sessions = true
		t.mu.Unlock()
		t.forget(inode)
	}
}

// serviceInodes lists the listening sockets that are the service's, in the order in which they were first listened on: those that it listened on
// before it was ready, and of the later ones those that have been open for a while in a process that was there by then. A session's own
// process was not, and a session's own socket does not stay.
func (t *Tracker) serviceInodes() []uint64 {
	t.sweepLate()
	t.mu.Lock()
	wanted := make(map[uint64]struct{})
	age := lateAge
	if t.sessions {
		age = sessionAge
	}
	for inode, l := range t.late {
		if time.Since(l.since) >= age {
			wanted[inode] = struct{}{}
		}
	}
	present := t.present
	t.mu.Unlock()
	ours := make(map[uint64]bool)
	if len(wanted) > 0 {
		holders, _ := proc.Holders(t.pids(), wanted)
		for inode, list := range holders {
			for _, h := range list {
				if st, err := proc.ReadStat(h.PID); err == nil && present[h.PID] == st.StartTime {
					ours[inode] = true
				}
			}
		}
	}
	t.joinsService(ours)
	var list []uint64
	for _, inode := range t.listeningInodes() {
		t.mu.Lock()
		_, late := t.late[inode]
		t.mu.Unlock()
		if !late || ours[inode] {
			list = append(list, inode)
		}
	}
	return list
}

// servesAlready tells of a generation that is not known to be ready yet whether it has clients, or waits for them, on a socket that it has claimed,
// so that what it is about to listen on may be a session's. What has an address of its predecessor's is not.
func (t *Tracker) servesAlready(inode uint64) bool {
	t.mu.Lock()
	starting := t.starting
	_, known := t.listening[inode]
	_, joins := t.joining[inode]
	delete(t.joining, inode)
	t.mu.Unlock()
	if !starting || known || joins || t.preserved == nil || t.standsFor(inode) != nil {
		return false
	}
	serving := make(map[uint64]struct{})
	for _, s := range t.preserved.Claimed() {
		serving[s.Inode] = struct{}{}
	}
	for _, own := range t.listeningInodes() {
		if t.standsFor(own) != nil {
			serving[own] = struct{}{}
		}
	}
	if len(serving) == 0 {
		return false
	}
	pids := t.pids()
	if s := lookAt(pids, serving); len(s.waiting) > 0 {
		return true
	}
	if err := t.lookForAccepted(pids, serving); err != nil {
		t.log.Debug("cannot look for accepted connections", "error", err.Error())
	}
	for inode := range serving {
		if t.waitersOn(inode) > 0 {
			return true
		}
	}
	return false
}

// maxJoining bounds how many sockets are remembered that have a predecessor's address and have not listened.
const maxJoining = 1024

// noteJoining notes that the caller's own socket is about to get an address of its predecessor's: it joins a SO_REUSEPORT group.
func (t *Tracker) noteJoining(r *notify.Request) {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.starting && len(t.joining) < maxJoining {
		t.joining[inode] = struct{}{}
	}
}

// maxChosen bounds how many sockets are remembered whose port the kernel has chosen. Most are of clients, and are not listened on.
const maxChosen = 1024

// noteChosen notes that the caller's socket gets a port of the kernel's choice: nobody else can be asked to bind it.
func (t *Tracker) noteChosen(r *notify.Request) {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.chosen) >= maxChosen {
		for other := range t.chosen {
			if _, listens := t.listening[other]; !listens {
				delete(t.chosen, other)
			}
		}
	}
	t.chosen[inode] = struct{}{}
}

// portChosen tells whether the kernel has chosen the socket's port.
func (t *Tracker) portChosen(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.chosen[inode]
	return ok
}

// nowReady notes that the generation is ready, and which processes it has: what others listen on from now on is a session's.
func (t *Tracker) nowReady() {
	present := make(map[int]uint64)
	for _, pid := range t.pids() {
		if st, err := proc.ReadStat(pid); err == nil {
			present[pid] = st.StartTime
		}
	}
	var claimed []*Socket
	if t.preserved != nil {
		claimed = t.preserved.Claimed()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starting, t.present = false, present
	for _, s := range claimed { // it may have skipped its listen, because they listen already
		t.number(s.Inode)
	}
}

// joinsService adds to ours the late sockets that have the port of one that is the service's: a worker that was started later has joined its
// SO_REUSEPORT group.
func (t *Tracker) joinsService(ours map[uint64]bool) {
	t.mu.Lock()
	all, late := make(map[uint64]struct{}), make(map[uint64]bool)
	for inode := range t.listening {
		all[inode] = struct{}{}
		_, late[inode] = t.late[inode]
	}
	some := len(t.late) > 0
	t.mu.Unlock()
	if !some {
		return
	}
	diag, err := sockdiag.Open()
	if err != nil {
		return
	}
	defer diag.Close()
	ports, _, err := diag.Listeners(all)
	if err != nil {
		return
	}
	for _, inodes := range ports {
		if !slices.ContainsFunc(inodes, func(inode uint64) bool { return !late[inode] || ours[inode] }) {
			continue
		}
		for _, inode := range inodes {
			ours[inode] = true
		}
	}
}
