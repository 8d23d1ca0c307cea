package proctree

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/huptime/huptime/internal/proc"
)

// self is the supervisor's PID in these tests.
const self = 10

// population is a census of processes that a test makes up.
type population struct {
	*Tree
	t     *testing.T
	stats []proc.Stat
}

func newWorld(t *testing.T) *population {
	w := &population{Tree: New(), t: t}
	w.self = self
	w.alive = func() []proc.Stat { return slices.Clone(w.stats) }
	w.filters = func(int) (int, error) { return 1, nil }
	w.put(proc.Stat{PID: 1, PGRP: 1, Session: 1, StartTime: 1}, proc.Stat{PID: self, PPID: 1, PGRP: self, Session: 1, StartTime: 2})
	return w
}

// put adds processes, or replaces those of the same PIDs.
func (w *population) put(stats ...proc.Stat) {
	for _, st := range stats {
		if st.State == 0 {
			st.State = 'S'
		}
		w.end(st.PID)
		w.stats = append(w.stats, st)
	}
}

// end takes processes away; their children become the supervisor's.
func (w *population) end(pids ...int) {
	w.stats = slices.DeleteFunc(w.stats, func(st proc.Stat) bool { return slices.Contains(pids, st.PID) })
	for i := range w.stats {
		if slices.Contains(pids, w.stats[i].PPID) {
			w.stats[i].PPID = self
		}
	}
}

// launch starts a generation with this leader.
func (w *population) launch(generation, leader int) { w.launchIn(generation, leader, 1) }

// launchIn starts it in a session, which may be one of its own.
func (w *population) launchIn(generation, leader, session int) {
	w.Settle()
	w.put(proc.Stat{PID: leader, PPID: self, PGRP: leader, Session: session, StartTime: uint64(leader)})
	w.Begin(generation, func() (Began, error) { return Began{leader, session == leader}, nil })
}

// want checks who is a member of which generation.
func (w *population) want(members map[int][]int) {
	w.t.Helper()
	for g, want := range members {
		got := w.Members(g)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			w.t.Errorf("generation %d has %v, want %v", g, got, want)
		}
	}
}

// nobody is asked in vain.
func nobody(int) (int, error) { return 0, errors.New("it does not knock") }

func child(pid, parent, group, session int) proc.Stat {
	return proc.Stat{PID: pid, PPID: parent, PGRP: group, Session: session, StartTime: uint64(pid)}
}

func TestCensus(t *testing.T) {
	for name, test := range map[string]func(w *population){
		"ancestry": func(w *population) {
			w.put(child(101, 100, 100, 1), child(102, 101, 102, 102), child(201, 200, 200, 1), child(50, 1, 50, 50))
			w.want(map[int][]int{1: {100, 101, 102}, 2: {200, 201}, 3: nil})
		},
		"the leader comes first": func(w *population) {
			w.put(child(21, 100, 100, 1))
			if got := w.Members(1); !slices.Equal(got, []int{100, 21}) {
				w.t.Errorf("%v", got)
			}
		},
		"zombies hold nothing": func(w *population) {
			st := child(101, 100, 100, 1)
			st.State = 'Z'
			w.put(st)
			w.want(map[int][]int{1: {100}})
		},
		// Where generations share a terminal's session a process can join the group of another one's leader.
		"orphan of the group": func(w *population) {
			w.put(child(101, self, 200, 1), child(201, self, 200, 1))
			w.want(map[int][]int{1: {100}, 2: {200}})
			w.Resolve(func(pid int) (int, error) { return pid / 100, nil })
			w.want(map[int][]int{1: {100, 101}, 2: {200, 201}})
		},
		"orphan of the group that does not knock": func(w *population) {
			w.put(child(101, self, 100, 1), child(201, self, 200, 1))
			w.Resolve(nobody)
			w.want(map[int][]int{1: {100, 101}, 2: {200, 201}})
			if got := w.Certain(1); !slices.Equal(got, []int{100}) {
				w.t.Errorf("%v are generation 1's for certain", got)
			}
		},
		"orphan of a session": func(w *population) {
			w.launchIn(3, 300, 300)
			w.put(child(301, self, 99, 300), child(101, self, 300, 1))
			w.want(map[int][]int{1: {100}, 2: {200}, 3: {300, 301}})
			w.end(300)
			w.want(map[int][]int{3: {301}})
			if got := w.Groups(3); !slices.Equal(got, []int{99}) {
				w.t.Errorf("groups %v, want 99", got)
			}
		},
		"orphan without a filter": func(w *population) {
			w.end(100)
			w.Ended(1)
			w.put(child(102, self, 102, 102), child(103, self, 103, 103))
			w.filters = func(pid int) (int, error) { return pid % 2, nil }
			w.Resolve(func(pid int) (int, error) {
				if pid != 103 {
					w.t.Errorf("process %d is asked", pid)
				}
				return 0, ErrNoGeneration
			})
			w.want(map[int][]int{2: {200}})
		},
		"orphan of the only generation": func(w *population) {
			w.end(100)
			w.Ended(1)
			w.put(child(202, self, 202, 202), child(203, 202, 202, 202))
			w.want(map[int][]int{2: {200, 202, 203}})
			if got := w.Certain(2); !slices.Equal(got, []int{200}) {
				w.t.Errorf("%v are generation 2's for certain", got)
			}
			w.Resolve(func(int) (int, error) { return 2, nil })
			if got := w.Certain(2); len(got) != 3 {
				w.t.Errorf("%v are generation 2's for certain", got)
			}
		},
		"orphan that was seen before": func(w *population) {
			w.put(child(101, 100, 101, 101), child(102, 101, 102, 102))
			w.want(map[int][]int{1: {100, 101, 102}})
			w.end(101, 100)
			w.want(map[int][]int{1: {102}, 2: {200}})
		},
		"orphan that nobody has seen": func(w *population) {
			w.put(child(102, self, 102, 102), child(103, 102, 102, 102))
			w.want(map[int][]int{1: {100}, 2: {200}})
			asked := 0
			w.Resolve(func(pid int) (int, error) {
				if asked++; pid != 102 {
					w.t.Errorf("process %d is asked", pid)
				}
				return 2, nil
			})
			w.Resolve(nobody) // it is remembered
			w.want(map[int][]int{1: {100}, 2: {102, 103, 200}})
			if asked != 1 {
				w.t.Errorf("asked %d times", asked)
			}
		},
		"orphan that does not knock": func(w *population) {
			w.put(child(102, self, 102, 102))
			w.Resolve(nobody)
			w.want(map[int][]int{1: {100}, 2: {200}})
			w.Resolve(func(int) (int, error) { return 3, nil }) // a generation that has ended meanwhile
			w.want(map[int][]int{1: {100}, 2: {200}, 3: nil})
			// It can only be of the one that is left.
			w.end(100)
			w.Ended(1)
			w.want(map[int][]int{1: nil, 2: {102, 200}})
		},
		"orphan before the second start": func(w *population) {
			w.put(child(202, self, 202, 202))
			w.end(100)
			w.Ended(1)
			w.launch(3, 300) // settles who is there
			w.want(map[int][]int{2: {200, 202}, 3: {300}})
		},
		"a PID that is used again": func(w *population) {
			w.put(child(150, 100, 100, 1))
			w.want(map[int][]int{1: {100, 150}})
			again := child(150, 200, 200, 1)
			again.StartTime = 9999
			w.put(again)
			w.want(map[int][]int{1: {100}, 2: {150, 200}})
		},
		"a leader's PID that is used again": func(w *population) {
			w.put(child(101, 100, 101, 101))
			w.want(map[int][]int{1: {100, 101}})
			w.end(100)
			again := child(100, self, 100, 100)
			again.StartTime = 9999
			w.put(again, child(205, self, 100, 100))
			w.want(map[int][]int{1: {101}, 2: {200}})
			w.Resolve(func(int) (int, error) { return 2, nil })
			w.want(map[int][]int{1: {101}, 2: {100, 200, 205}})
		},
		"rings": func(w *population) {
			w.stats = append(w.stats, child(101, 102, 100, 1), child(102, 101, 100, 1), child(103, 103, 103, 103))
			for i := range w.stats {
				w.stats[i].State = 'S'
			}
			w.want(map[int][]int{1: {100}, 2: {200}})
		},
		"strangers": func(w *population) {
			w.put(child(104, 1, 100, 100), child(105, 104, 200, 200))
			w.want(map[int][]int{1: {100}, 2: {200}})
		},
		"prune": func(w *population) {
			for pid := 1000; pid < 1100; pid++ {
				w.put(child(pid, 100, 100, 1))
			}
			w.Settle()
			if n := len(w.known); n != 102 {
				w.t.Errorf("%d are known, want 102", n)
			}
			for pid := 1000; pid < 1100; pid++ {
				w.end(pid)
			}
			w.Settle()
			if want := map[identity]int{{100, 100}: 1, {200, 200}: 2}; !maps.Equal(w.known, want) {
				w.t.Errorf("known: %v, want %v", w.known, want)
			}
			w.Ended(1)
			if n := len(w.known); n != 1 {
				w.t.Errorf("%d are known after a generation's end, want 1", n)
			}
		},
		"after and tops": func(w *population) {
			w.launch(3, 300)
			w.put(child(101, 100, 100, 1), child(201, 200, 200, 1), child(202, self, 200, 1))
			w.Resolve(func(int) (int, error) { return 2, nil })
			after := w.After(1)
			slices.Sort(after)
			if want := []int{200, 201, 202, 300}; !slices.Equal(after, want) {
				w.t.Errorf("after 1: %v, want %v", after, want)
			}
			w.end(200)
			tops := w.Tops(2)
			slices.Sort(tops)
			if want := []int{201, 202}; !slices.Equal(tops, want) {
				w.t.Errorf("tops of 2: %v, want %v", tops, want)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.launch(1, 100)
			w.want(map[int][]int{1: {100}})
			w.launch(2, 200)
			w.want(map[int][]int{1: {100}, 2: {200}})
			test(w)
		})
	}
}

// The real /proc has the test itself, and not as anybody's.
func TestEveryProcess(t *testing.T) {
	c := New()
	if !slices.ContainsFunc(c.alive(), func(st proc.Stat) bool { return st.PID == c.self && st.StartTime > 0 }) {
		t.Error("the test's own process is not there")
	}
	if got := c.Members(1); len(got) != 0 {
		t.Errorf("members of no generation: %v", got)
	}
}

// started is what forks nothing.
func started(pid int) func() (Began, error) {
	return func() (Began, error) { return Began{PID: pid}, nil }
}

// A check and all that it starts are of no generation, also when its processes have lost their parents.
func TestCensusLeavesChecksOut(t *testing.T) {
	t.Parallel()
	const self, leader, worker, check, child, orphan = 10, 20, 21, 30, 31, 32
	processes := []proc.Stat{
		{PID: leader, PPID: self, PGRP: leader, Session: self, StartTime: 1, State: 'S'},
		{PID: worker, PPID: leader, PGRP: leader, Session: self, StartTime: 2, State: 'S'},
		{PID: check, PPID: self, PGRP: check, Session: self, StartTime: 3, State: 'S'},
		{PID: child, PPID: check, PGRP: child, Session: child, StartTime: 4, State: 'S'},
		{PID: orphan, PPID: self, PGRP: check, Session: self, StartTime: 5, State: 'S'},
	}
	c := New()
	c.self = self
	c.alive = func() []proc.Stat { return processes }
	c.filters = func(int) (int, error) { return 1, nil }
	c.Begin(1, started(leader))
	c.BeginCheck(started(check))
	want := []int{leader, worker}
	if got := c.Members(1); !slices.Equal(got, want) {
		t.Errorf("with the check: %v, want %v", got, want)
	}
	// The check has ended, and its child is the supervisor's now.
	processes = slices.Delete(processes, 2, 3)
	processes[2].PPID = self
	c.Checked(check)
	if got := c.Members(1); !slices.Equal(got, want) {
		t.Errorf("after the check: %v, want %v", got, want)
	}
	if got := c.After(0); !slices.Equal(got, want) {
		t.Errorf("all generations have %v, want %v", got, want)
	}
}
