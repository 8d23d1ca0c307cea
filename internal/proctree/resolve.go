package proctree

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
)

// resolveLimit bounds how long resolve is waited for. Answers that come later count later.
const resolveLimit = time.Second

// ErrNoGeneration is what a process that belongs to none answers.
var ErrNoGeneration = errors.New("the process is of no generation")

// Resolve asks for the generation of processes that nothing else tells it of for certain: children of the supervisor
// that it did not start. ask makes the process knock, so resolve must not be called from a listener's goroutine. It
// returns when all have answered, or after resolveLimit.
func (c *Tree) Resolve(ask func(pid int) (int, error)) {
	c.mu.Lock()
	_, open := c.attribute()
	var asked []chan struct{}
	for _, id := range open {
		over, asking := c.asking[id]
		if !asking {
			over = make(chan struct{})
			c.asking[id] = over
			go c.ask(id, over, ask) // ends by the limit of a freeze
		}
		asked = append(asked, over)
	}
	c.mu.Unlock()
	limit := time.NewTimer(resolveLimit)
	defer limit.Stop()
	for _, over := range asked {
		select {
		case <-over:
		case <-limit.C:
			return
		}
	}
}

// ask makes one process knock and notes what it says.
func (c *Tree) ask(id identity, over chan struct{}, ask func(pid int) (int, error)) {
	generation, err := c.knocked(id.pid, ask)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asking, id)
	close(over)
	_, lives := c.leaders[generation]
	switch {
	case errors.Is(err, ErrNoGeneration):
		c.known[id] = noGeneration
		delete(c.guessed, id)
	case err != nil:
		// It may be gone, or not be looked into: then the next best sign counts.
		c.silent[id] = struct{}{}
	case lives:
		c.known[id] = generation
		delete(c.guessed, id)
	}
}

// errUnstoppable says that a process can't be made to knock now.
var errUnstoppable = errors.New("it sleeps uninterruptibly, and so do its children")

// knocked asks the process, or, where it can't be stopped, one of its children: those have inherited its filter.
func (c *Tree) knocked(pid int, ask func(pid int) (int, error)) (int, error) {
	if remote.Sandboxed(pid) {
		return 0, remote.ErrSandboxed
	}
	if !proc.Unstoppable(pid) {
		return ask(pid)
	}
	for _, st := range c.alive() {
		if st.PPID != pid || proc.Unstoppable(st.PID) {
			continue
		}
		if generation, err := ask(st.PID); err == nil {
			return generation, nil
		}
	}
	return 0, errUnstoppable
}

// Unfiltered makes it a census of services that have no filter (plain.go): nothing tells a stranger then.
func (c *Tree) Unfiltered() { c.filters = func(int) (int, error) { return 0, errors.ErrUnsupported } }

// stranger tells whether a process runs under no more filters than the supervisor: then it is of no generation.
func (c *Tree) stranger(pid int) bool {
	n, err := c.filters(pid)
	return err == nil && n == 0
}

// ownFilters makes what tells how many filters a process has that the supervisor has not.
func ownFilters() func(pid int) (int, error) {
	common, err := proc.Filters(unix.Getpid())
	return func(pid int) (int, error) {
		if err != nil {
			return 0, err
		}
		n, err := proc.Filters(pid)
		return n - common, err
	}
}

// Groups lists the process groups of a generation that no stranger can be in: those of its leader's session.
func (c *Tree) Groups(generation int) (groups []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	leader := c.leaders[generation]
	if !leader.session {
		return nil
	}
	for _, st := range c.count() {
		if st.generation == generation && st.Session == leader.pid && !slices.Contains(groups, st.PGRP) {
			groups = append(groups, st.PGRP)
		}
	}
	return groups
}

// Certain lists the living processes of a generation that are its for certain.
func (c *Tree) Certain(generation int) (pids []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range c.count() {
		if c.known[identity{st.PID, st.StartTime}] == generation {
			pids = append(pids, st.PID)
		}
	}
	return pids
}

// Open lists the processes that resolve would ask.
func (c *Tree) Open() []identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, open := c.attribute()
	return open
}
