package proctree

import (
	"maps"
	"os"
	"sync"

	"github.com/huptime/huptime/internal/proc"
)

// Tree tells which process belongs to which generation. Every process of
// every generation descends from the supervisor, which is their subreaper
// (PR_SET_CHILD_SUBREAPER): one whose parent has ended becomes the
// supervisor's child, and is recognized by what was known of it before, or by the session that its leader was given:
// nobody can join one. Whoever is neither is asked to knock (resolve). A process group tells nothing, because a process
// of an old generation may join a new leader's where both are of one session.
type Tree struct {
	mu      sync.Mutex
	self    int
	leaders map[int]leader             // by generation
	check   int                        // PID of the check that runs, or 0: it is of no generation
	known   map[identity]int           // process → generation, for certain
	guessed map[identity]int           // process → generation, until it has knocked
	silent  map[identity]struct{}      // those that could not be made to knock
	filters func(pid int) (int, error) // how many seccomp filters a process has that the supervisor has not; tests put in their own
	alive   func() []proc.Stat         // the machine's processes; tests put in their own
	asking  map[identity]chan struct{} // who is being asked to knock; closed when that is over
}

// leader is the first process of a generation.
type leader struct {
	identity      // start is 0 until it was seen
	session  bool // it is the first of a session too
}

// identity tells processes apart that had the same PID one after the other.
type identity struct {
	pid   int
	start uint64
}

// New makes a tree of the calling process's descendants, none of whom is of a generation yet.
func New() *Tree {
	return &Tree{
		self:    os.Getpid(),
		leaders: make(map[int]leader),
		known:   make(map[identity]int),
		guessed: make(map[identity]int),
		silent:  make(map[identity]struct{}),
		filters: ownFilters(),
		alive:   everyProcess,
		asking:  make(map[identity]chan struct{}),
	}
}

func everyProcess() []proc.Stat {
	pids, err := proc.Processes()
	if err != nil {
		return nil
	}
	stats := make([]proc.Stat, 0, len(pids))
	for _, pid := range pids {
		if st, err := proc.ReadStat(pid); err == nil {
			stats = append(stats, st)
		}
	}
	return stats
}

// Settle attributes everybody who is there now. It is called before a
// generation starts, while fewer can be meant.
func (c *Tree) Settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.leaders) == 0 {
		return // there is nobody to be attributed to, and reading all of /proc takes milliseconds
	}
	c.count()
}

// Began is a process that was forked just now, and whether it leads a session of its own.
type Began struct {
	PID     int
	Session bool
}

// Begin forks a leader by start, and notes it for its generation's. Nobody counts meanwhile: a child that is not known yet would be taken for an
// orphan, and made to knock. A launcher can't be, for nobody answers its calls before the handshake.
func (c *Tree) Begin(generation int, start func() (Began, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := start()
	if err == nil {
		c.leaders[generation] = leader{identity{pid: b.PID}, b.Session}
	}
	return err
}

// BeginCheck is begin for a check, which counts as no part of the service.
func (c *Tree) BeginCheck(start func() (Began, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := start()
	if err == nil {
		c.check = b.PID
	}
	return err
}

// Ended forgets a generation.
func (c *Tree) Ended(generation int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leaders, generation)
	for _, of := range []map[identity]int{c.known, c.guessed} {
		maps.DeleteFunc(of, func(_ identity, g int) bool { return g == generation })
	}
}

// Was tells the generation of a process that has just been reaped; 0 where it was never seen.
func (c *Tree) Was(pid int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range []map[identity]int{c.known, c.guessed} {
		for id, g := range of {
			if id.pid == pid {
				return g
			}
		}
	}
	return 0
}

// noGeneration is what a check and its processes are of.
const noGeneration = -1

// Checked notes the end of a check.
func (c *Tree) Checked(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count() // so that what it has left behind is known for its own
	if c.check == pid {
		c.check = 0
	}
}

// Members lists the living processes of a generation, the leader first where it lives.
func (c *Tree) Members(generation int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pids []int
	leader := c.leaders[generation].pid
	for _, st := range c.count() {
		if st.generation != generation {
			continue
		}
		if st.PID == leader {
			pids = append([]int{st.PID}, pids...)
		} else {
			pids = append(pids, st.PID)
		}
	}
	return pids
}

// After lists the living processes of all generations later than this one.
func (c *Tree) After(generation int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pids []int
	for _, st := range c.count() {
		if st.generation > generation {
			pids = append(pids, st.PID)
		}
	}
	return pids
}

// Tops lists the processes of a generation whose parent is the supervisor:
// the leader, or, where it has ended, those that it left behind.
func (c *Tree) Tops(generation int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pids []int
	for _, st := range c.count() {
		if st.generation == generation && st.PPID == c.self {
			pids = append(pids, st.PID)
		}
	}
	return pids
}

type counted struct {
	proc.Stat
	generation int
}

// count attributes every descendant of the supervisor, and remembers it. c.mu
// is held. Zombies are left out: they hold nothing.
func (c *Tree) count() []counted {
	list, _ := c.attribute()
	return list
}

// attribute is count, and lists the children of the supervisor that have not knocked yet and could be anybody's.
func (c *Tree) attribute() (list []counted, open []identity) {
	stats := c.alive()
	byPID := make(map[int]proc.Stat, len(stats))
	for _, st := range stats {
		byPID[st.PID] = st
	}
	c.prune(byPID)
	leaders, sessions := c.ledBy(byPID)
	if c.check != 0 {
		leaders[c.check] = noGeneration
	}
	var of func(st proc.Stat, depth int) (generation int, certain bool)
	of = func(st proc.Stat, depth int) (g int, certain bool) {
		id := identity{st.PID, st.StartTime}
		if g, ok := c.known[id]; ok {
			return g, true
		}
		switch parent, ok := byPID[st.PPID]; {
		case st.PPID == c.self:
			g, certain = c.child(st, leaders, sessions)
		case ok && st.PPID > 1 && depth < maxDepth:
			g, certain = of(parent, depth+1)
		}
		switch {
		case certain:
			c.known[id] = g
			delete(c.guessed, id)
		case g != 0:
			c.guessed[id] = g
		}
		return g, certain
	}
	for _, st := range stats {
		if st.State == 'Z' || st.State == 'X' {
			continue
		}
		g, certain := of(st, 0)
		if g != 0 {
			list = append(list, counted{st, g})
		}
		if !certain && st.PPID == c.self {
			open = append(open, identity{st.PID, st.StartTime})
		}
	}
	return list, open
}

// ledBy finds the generations by their leaders' PIDs, and by those that are numbers of sessions too. While a
// session has members its number is given to nobody else (alloc_pid in kernel/pid.c); one that has
// a leader which started at another time is another's.
func (c *Tree) ledBy(byPID map[int]proc.Stat) (leaders, sessions map[int]int) {
	leaders, sessions = make(map[int]int, len(c.leaders)), make(map[int]int, len(c.leaders))
	for g, leader := range c.leaders {
		st, lives := byPID[leader.pid]
		if lives && leader.start == 0 {
			leader.start = st.StartTime
			c.leaders[g] = leader
		}
		if lives && st.StartTime != leader.start {
			continue
		}
		leaders[leader.pid] = g
		if leader.session {
			sessions[leader.pid] = g
		}
	}
	return leaders, sessions
}

// maxDepth bounds the walk towards the supervisor: the processes were not read
// all at one moment, so that PIDs used again could form a ring.
const maxDepth = 64

// child attributes a child of the supervisor: a leader, or an orphan, which may be nobody's where the supervisor is PID 1. What is
// not certain is a guess: who has not knocked can only be of the one generation there is, or was when it was first seen. The
// group counts only for those that can't be made to knock.
func (c *Tree) child(st proc.Stat, leaders, sessions map[int]int) (generation int, certain bool) {
	if g := leaders[st.PID]; g != 0 {
		return g, true
	}
	if g := sessions[st.Session]; g != 0 {
		return g, true
	}
	id := identity{st.PID, st.StartTime}
	if g, ok := c.guessed[id]; ok {
		return g, false
	}
	if c.stranger(st.PID) {
		return noGeneration, true
	}
	if g := leaders[st.PGRP]; g == noGeneration {
		return g, false
	}
	if len(c.leaders) == 1 {
		for g := range c.leaders {
			return g, false
		}
	}
	if _, silent := c.silent[id]; silent {
		return leaders[st.PGRP], false
	}
	return 0, false
}

// prune forgets processes that are gone.
func (c *Tree) prune(byPID map[int]proc.Stat) {
	gone := func(id identity) bool {
		st, ok := byPID[id.pid]
		return !ok || st.StartTime != id.start
	}
	maps.DeleteFunc(c.known, func(id identity, _ int) bool { return gone(id) })
	maps.DeleteFunc(c.guessed, func(id identity, _ int) bool { return gone(id) })
	maps.DeleteFunc(c.silent, func(id identity, _ struct{}) bool { return gone(id) })
}
