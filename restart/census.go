package restart

import (
	"os"
	"sync"

	"huptime/internal/proc"
	"huptime/notify"
)

// census tells which process belongs to which generation. Every process of
// every generation descends from the supervisor, which is their subreaper
// (PR_SET_CHILD_SUBREAPER): one whose parent has ended becomes the
// supervisor's child, and is recognized by what was known of it before, by its
// process group, or because only one generation is left that it can be of.
type census struct {
	mu      sync.Mutex
	self    int
	leaders map[int]identity   // generation → its leader; start is 0 until it was seen
	check   int                // PID of the check that runs, or 0: it is of no generation
	known   map[identity]int   // process → generation
	alive   func() []proc.Stat // the machine's processes; tests put in their own
}

// identity tells processes apart that had the same PID one after the other.
type identity struct {
	pid   int
	start uint64
}

func newCensus() *census {
	return &census{
		self:    os.Getpid(),
		leaders: make(map[int]identity),
		known:   make(map[identity]int),
		alive:   everyProcess,
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

// settle attributes everybody who is there now. It is called before a
// generation starts, while fewer can be meant.
func (c *census) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.leaders) == 0 {
		return // there is nobody to be attributed to, and reading all of /proc takes milliseconds
	}
	c.count()
}

// resolve asks for the generation of processes that nothing else tells it of: children of the supervisor
// that it did not start, while several generations live. ask makes the process
// knock, so it must not be called from a listener's goroutine.
func (c *census) resolve(ask func(pid int) (int, error)) {
	c.mu.Lock()
	_, open := c.attribute()
	c.mu.Unlock()
	for _, id := range open {
		// An error leaves it open: it may be gone, or no process of the service's.
		generation, err := ask(id.pid)
		if err != nil {
			continue
		}
		c.mu.Lock()
		if _, lives := c.leaders[generation]; lives {
			c.known[id] = generation
		}
		c.mu.Unlock()
	}
}

// begin forks a leader by start, and notes it for its generation's. Nobody counts meanwhile: a child that is not known yet would be taken for an
// orphan, and made to knock. A launcher can't be, for nobody answers its calls before the handshake.
func (c *census) begin(generation int, start func() (*notify.Launcher, error)) (*notify.Launcher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := start()
	if err == nil {
		c.leaders[generation] = identity{pid: l.PID}
	}
	return l, err
}

// beginCheck is begin for a check, which counts as no part of the service.
func (c *census) beginCheck(start func() (*notify.Launcher, error)) (*notify.Launcher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := start()
	if err == nil {
		c.check = l.PID
	}
	return l, err
}

// ended forgets a generation.
func (c *census) ended(generation int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leaders, generation)
	for id, g := range c.known {
		if g == generation {
			delete(c.known, id)
		}
	}
}

// was tells the generation of a process that has just been reaped; 0 where it was never seen.
func (c *census) was(pid int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, g := range c.known {
		if id.pid == pid {
			return g
		}
	}
	return 0
}

// noGeneration is what a check and its processes are of.
const noGeneration = -1

// checked notes the end of a check.
func (c *census) checked(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count() // so that what it has left behind is known for its own
	if c.check == pid {
		c.check = 0
	}
}

// members lists the living processes of a generation, the leader first where it lives.
func (c *census) members(generation int) []int {
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

// after lists the living processes of all generations later than this one.
func (c *census) after(generation int) []int {
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

// tops lists the processes of a generation whose parent is the supervisor:
// the leader, or, where it has ended, those that it left behind.
func (c *census) tops(generation int) []int {
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
func (c *census) count() []counted {
	list, _ := c.attribute()
	return list
}

// attribute is count, and lists the children of the supervisor that could be anybody's.
func (c *census) attribute() (list []counted, open []identity) {
	stats := c.alive()
	byPID := make(map[int]proc.Stat, len(stats))
	for _, st := range stats {
		byPID[st.PID] = st
	}
	leaders := c.ledBy(byPID)
	if c.check != 0 {
		leaders[c.check] = noGeneration
	}
	var of func(st proc.Stat, depth int) int
	of = func(st proc.Stat, depth int) int {
		if g, ok := c.known[identity{st.PID, st.StartTime}]; ok {
			return g
		}
		g := 0
		switch parent, ok := byPID[st.PPID]; {
		case st.PPID == c.self:
			g = c.child(st, leaders)
		case ok && st.PPID > 1 && depth < maxDepth:
			g = of(parent, depth+1)
		}
		if g != 0 {
			c.known[identity{st.PID, st.StartTime}] = g
		}
		return g
	}
	for _, st := range stats {
		if st.State == 'Z' || st.State == 'X' {
			continue
		}
		if g := of(st, 0); g != 0 {
			list = append(list, counted{st, g})
		} else if st.PPID == c.self {
			open = append(open, identity{st.PID, st.StartTime})
		}
	}
	c.prune(byPID)
	return list, open
}

// ledBy finds the generations by their leaders' PIDs, which are those of their process groups and sessions too. While a
// group or session has members its number is given to nobody else (alloc_pid in kernel/pid.c); one that has
// a leader which started at another time is another's.
func (c *census) ledBy(byPID map[int]proc.Stat) map[int]int {
	leaders := make(map[int]int, len(c.leaders))
	for g, leader := range c.leaders {
		st, lives := byPID[leader.pid]
		if lives && leader.start == 0 {
			leader.start = st.StartTime
			c.leaders[g] = leader
		}
		if !lives || st.StartTime == leader.start {
			leaders[leader.pid] = g
		}
	}
	return leaders
}

// maxDepth bounds the walk towards the supervisor: the processes were not read
// all at one moment, so that PIDs used again could form a ring.
const maxDepth = 64

// child attributes a child of the supervisor: a leader, or an orphan.
func (c *census) child(st proc.Stat, leaders map[int]int) int {
	if g := leaders[st.PID]; g != 0 {
		return g
	}
	if g := leaders[st.PGRP]; g != 0 {
		return g // a leader's PID is its group's number
	}
	if g := leaders[st.Session]; g != 0 {
		return g
	}
	if len(c.leaders) == 1 {
		for g := range c.leaders {
			return g
		}
	}
	return 0
}

// prune forgets processes that are gone.
func (c *census) prune(byPID map[int]proc.Stat) {
	for id := range c.known {
		if st, ok := byPID[id.pid]; !ok || st.StartTime != id.start {
			delete(c.known, id)
		}
	}
}
