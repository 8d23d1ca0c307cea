package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/waitstate"
)

// sight is what one look at processes has shown of some sockets.
type sight struct {
	waiting map[uint64][]int    // socket → processes of which a thread waits there for clients
	held    map[uint64]struct{} // sockets that somebody has open
	edged   map[uint64]bool     // of waiting: only by an edge-triggered entry of an epoll set
	accept  map[uint64]bool     // somebody was inside accept
	polled  map[uint64]bool     // somebody waited to be told, in poll, select or epoll
	blind   error               // why some that may wait could not be seen, or nil
}

// Reasons why it can't be seen who waits.
var (
	errHidden  = errors.New("it may not be looked into")
	errForeign = errors.New("it runs code whose system calls huptime can't read")
)

// lookAt tells on which of the sockets threads of the processes wait for clients at this moment: in accept, in a call that takes
// datagrams, in poll or select, or in epoll_wait on a set that has the socket, be it inside of another set. That a socket is in a set
// says nothing by itself: programs put it there first, and load their data then.
func lookAt(pids []int, inodes map[uint64]struct{}) sight {
	s := sight{waiting: make(map[uint64][]int), held: make(map[uint64]struct{}), edged: make(map[uint64]bool),
		accept: make(map[uint64]bool), polled: make(map[uint64]bool)}
	for _, pid := range pids {
		if err := s.look(pid, inodes); err != nil && s.blind == nil {
			s.blind = fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return s
}

// look looks at one process. The error says why it could not be seen whether it waits.
func (s *sight) look(pid int, inodes map[uint64]struct{}) error {
	descriptors, err := proc.Descriptors(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone
	}
	if err != nil {
		return errHidden
	}
	at := make(map[int]uint64) // descriptor → socket
	var sets []int
	for _, d := range descriptors {
		if inode, ok := proc.SocketInode(d.Link); ok {
			if _, wanted := inodes[inode]; wanted {
				at[d.Number] = inode
				s.held[inode] = struct{}{}
			}
		} else if proc.IsEpoll(d.Link) {
			sets = append(sets, d.Number)
		}
	}
	leads := epollLeads(pid, sets, inodes)
	if len(at) == 0 && len(leads) == 0 {
		return nil
	}
	code, err := proc.ABI(pid)
	if err != nil || code == abi.Unknown {
		return errForeign
	}
	seen, err := s.lookAtThreads(pid, code, at, leads)
	if !seen && err == nil && hasURing(descriptors) {
		return errURing
	}
	return err
}

// lookAtThreads looks at the threads of a process, until one was seen on each socket. It tells whether any was seen.
func (s *sight) lookAtThreads(pid int, code abi.ABI, at map[int]uint64, leads map[int]map[uint64]uint32) (seen bool, err error) {
	tids, err := proc.Threads(pid)
	if err != nil {
		return false, nil // gone
	}
	found := make(map[uint64]bool)
	wanted := len(at)
	for _, tid := range tids {
		now, err := proc.ReadSyscall(pid, tid)
		if errors.Is(err, fs.ErrPermission) {
			return false, errHidden
		}
		if err != nil || now.Running {
			continue
		}
		fds, set := waitstate.At(tid, code, now)
		call, _ := waitstate.CallOf(tid, code, now)
		for _, fd := range fds {
			inode, ok := at[fd]
			if ok && call == abi.Accept {
				s.accept[inode] = true
			} else if ok {
				s.polled[inode] = true
			}
			if ok && !found[inode] {
				found[inode] = true
				s.waiting[inode] = append(s.waiting[inode], pid)
				delete(s.edged, inode)
			}
		}
		for inode, events := range leads[set] {
			s.polled[inode] = true
			if found[inode] {
				continue
			}
			found[inode] = true
			if len(s.waiting[inode]) == 0 && events&unix.EPOLLET != 0 {
				s.edged[inode] = true
			} else if events&unix.EPOLLET == 0 {
				delete(s.edged, inode)
			}
			s.waiting[inode] = append(s.waiting[inode], pid)
		}
		if len(found) >= wanted && wanted > 0 {
			break
		}
	}
	return len(found) > 0, nil
}

// maxNested bounds how deep epoll sets are looked for inside of others; the kernel allows five (EP_MAX_NESTS in fs/eventpoll.c).
const maxNested = 5

// epollLeads tells for each epoll set of a process which of the sockets a thread is told of that waits on it, and with which events. Entries
// that ask for nothing (a gate has silenced them, or EPOLLONESHOT has had its one event) don't count.
func epollLeads(pid int, sets []int, inodes map[uint64]struct{}) map[int]map[uint64]uint32 {
	if len(sets) == 0 {
		return nil
	}
	leads := make(map[int]map[uint64]uint32)
	inner := make(map[int][]int) // set → sets that are in it
	isSet := make(map[int]bool, len(sets))
	for _, set := range sets {
		isSet[set] = true
	}
	for _, set := range sets {
		info, err := proc.ReadFDInfo(pid, set)
		if err != nil {
			continue
		}
		for _, target := range info.Targets {
			if target.Events&(unix.EPOLLIN|unix.EPOLLRDNORM) == 0 {
				continue
			}
			if _, ok := inodes[target.Inode]; ok {
				if leads[set] == nil {
					leads[set] = make(map[uint64]uint32)
				}
				leads[set][target.Inode] = target.Events
			} else if isSet[target.FD] && target.FD != set {
				inner[set] = append(inner[set], target.FD)
			}
		}
	}
	for range maxNested {
		for outer, list := range inner {
			for _, set := range list {
				for inode, events := range leads[set] {
					if leads[outer] == nil {
						leads[outer] = make(map[uint64]uint32)
					}
					leads[outer][inode] = events
				}
			}
		}
	}
	return leads
}

// evidence is what a tracker knows of who waits for clients; it is guarded by the tracker's lock.
type evidence struct {
	waitedBy    map[uint64]map[int]struct{} // socket → processes that were seen to wait on it, or to have accepted
	firm        map[uint64]struct{}         // of these: not only by an edge-triggered entry of an epoll set
	inAccept    map[uint64]int              // socket → in how many looks somebody was inside accept
	polled      map[uint64]struct{}         // sockets of which somebody waited to be told
	watched     int                         // how often it was looked what its predecessor does; AwaitReady's
	looks       map[uint64]*looks           // socket → how often it was looked for who waits
	acceptsAt   map[int]struct{}            // numbers at which processes accept that may not be looked into; while it starts
	chosen      map[uint64]struct{}         // sockets whose port is the kernel's choice
	joining     map[uint64]struct{}         // sockets that were bound to a predecessor's address and have not listened; while it starts
	late        map[uint64]lateListener     // listening sockets that were opened after it was ready
	sweepLateAt int                         // so many of these are looked through for closed ones
	sessions    bool                        // some of those were closed again
	present     map[int]uint64              // the processes that it had when it was ready, with their start times
	proving     uint64                      // the socket on which it is looked whether it accepts; 0 for none
	doubts      int                         // how often it did not accept though it waited
	doubted     time.Time                   // when it did so last
	complete    time.Time                   // when nothing was lacking for the first time
	shown       readiness                   // what the last look at it has shown
}

func newEvidence() evidence {
	return evidence{
		waitedBy:    make(map[uint64]map[int]struct{}),
		firm:        make(map[uint64]struct{}),
		inAccept:    make(map[uint64]int),
		polled:      make(map[uint64]struct{}),
		looks:       make(map[uint64]*looks),
		acceptsAt:   make(map[int]struct{}),
		chosen:      make(map[uint64]struct{}),
		joining:     make(map[uint64]struct{}),
		late:        make(map[uint64]lateListener),
		sweepLateAt: minSweep,
	}
}

func (e *evidence) forget(inode uint64) {
	delete(e.waitedBy, inode)
	delete(e.firm, inode)
	delete(e.looks, inode)
	delete(e.inAccept, inode)
	delete(e.polled, inode)
	delete(e.late, inode)
	delete(e.chosen, inode)
}

// move makes what is known of one socket be known of another, which has taken its place.
func (e *evidence) move(from, to uint64) {
	if pids, ok := e.waitedBy[from]; ok {
		e.waitedBy[to] = pids
	}
	if _, ok := e.firm[from]; ok {
		e.firm[to] = struct{}{}
	}
	e.forget(from)
}

// witness notes what a look has shown. inodes are those that were looked for.
func (t *Tracker) witness(s sight, inodes map[uint64]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode := range inodes {
		l := t.looks[inode]
		if l == nil {
			l = &looks{first: time.Now()}
			t.looks[inode] = l
		}
		l.number++
		l.last = time.Now()
	}
	for inode := range s.polled {
		t.polled[inode] = struct{}{}
	}
	for inode, pids := range s.waiting {
		for _, pid := range pids {
			t.nowWaited(inode, pid)
		}
		if !s.edged[inode] {
			t.firm[inode] = struct{}{}
		}
	}
}

// looks is how often, and how long, a generation was looked at for who waits on a socket.
type looks struct {
	number      int
	first, last time.Time
}

// A generation that was looked at so often, over so long a time, and was never seen to wait on a socket does not wait there, or by no way that is
// known: then its successor is not asked to.
const (
	enoughLooks    = 10
	enoughLookTime = time.Second
)

// neverWaits tells whether this generation was looked at often enough and not seen to wait on the socket.
func (t *Tracker) neverWaits(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.looks[inode]
	return len(t.waitedBy[inode]) == 0 && l != nil && l.number >= enoughLooks && l.last.Sub(l.first) >= enoughLookTime
}

// waitersOn is how many processes were seen to wait on the socket.
func (t *Tracker) waitersOn(inode uint64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waitedBy[inode])
}

// nowWaited notes that a thread of a process waits on the socket, or has accepted a connection from it. t.mu is held.
func (t *Tracker) nowWaited(inode uint64, pid int) {
	if t.waitedBy[inode] == nil {
		t.waitedBy[inode] = make(map[int]struct{})
		t.waited = time.Now()
	}
	t.waitedBy[inode][pid] = struct{}{}
}
