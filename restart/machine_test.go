package restart

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// twoGenerations brings the world to where generation 2 serves and generation 1 drains.
func (w *world) twoGenerations() {
	w.t.Helper()
	w.ready(1)
	w.hup()
	w.ready(2)
	w.gated(1, nil)
}

func TestRestart(t *testing.T) {
	run(t, func(w *world) {
		w.ready(1)
		w.hup()
		w.count(2)
		w.did(1, "collect") // and goes on serving
		w.ready(2)
		w.did(1, "collect", "gate")
		w.gated(1, nil)
		w.drained(1)
		w.did(1, "collect", "gate", "SIGTERM")
		w.die(1, killedBy(syscall.SIGTERM))
		w.did(1, "collect", "gate", "SIGTERM", "close")
		w.did(2)
		w.die(2, exited(7))
		w.exits(7)
		for _, leader := range []int{101, 102} {
			if len(w.names) != 2 || w.names[leader-101] != leader {
				t.Errorf("promoted: %v", w.names)
			}
		}
	})
}

// TestNothingIsLeftToWakeUpFor: a timer that has nothing to do any more would wake the supervisor all the same.
func TestNothingIsLeftToWakeUpFor(t *testing.T) {
	run(t, func(w *world) {
		w.ready(1)
		for n := range 2 {
			if n > 0 {
				w.hup()
				w.ready(2)
				w.gated(1, nil)
				w.drained(1)
				w.die(1, killedBy(syscall.SIGTERM))
			}
			w.m.call(func() {
				if w.m.current.limit.Stop() {
					t.Errorf("generation %d is ready, and its limit is still to come", w.m.current.number)
				}
			})
		}
	})
}

// TestFirstGeneration walks the column "first starting".
func TestFirstGeneration(t *testing.T) {
	launch := func(op string, errno unix.Errno) error {
		return &notify.LaunchError{Op: op, Command: "x", Errno: errno}
	}
	for name, c := range map[string]struct {
		drive  func(w *world)
		status int
		isErr  bool
	}{
		"exits":      {func(w *world) { w.die(1, exited(3)) }, 3, false},
		"killed":     {func(w *world) { w.die(1, killedBy(syscall.SIGSEGV)) }, 139, false},
		"not found":  {func(w *world) { w.fail(1, launch("find", unix.ENOENT)); w.die(1, exited(127)) }, 127, true},
		"not usable": {func(w *world) { w.fail(1, launch("execute", unix.EACCES)); w.die(1, exited(126)) }, 126, true},
		"no filter":  {func(w *world) { w.fail(1, launch("install the filter for", unix.EBUSY)); w.die(1, exited(125)) }, 125, true},
		"launcher died": {func(w *world) {
			w.fail(1, fmt.Errorf("no: %w", notify.ErrLauncherDied))
			w.die(1, killedBy(syscall.SIGTERM))
		}, 143, false},
		"timeout": {func(w *world) {
			w.wait(time.Minute)
			w.says("counts as ready")
			w.hup()
			w.count(2)
			w.die(2, exited(1))
			w.die(1, exited(0))
		}, 0, false},
		"HUP waits": {func(w *world) {
			w.hup()
			w.hup()
			w.count(1)
			w.ready(1)
			w.count(2)
			w.die(2, exited(1))
			w.die(1, exited(4))
		}, 4, false},
		"TERM": {func(w *world) { w.end(syscall.SIGTERM); w.did(1, "SIGTERM"); w.die(1, killedBy(syscall.SIGTERM)) }, 143, false},
		"TERM twice": {func(w *world) {
			w.end(syscall.SIGINT)
			w.end(syscall.SIGTERM)
			w.did(1, "SIGINT", "kill")
			w.die(1, killedBy(syscall.SIGKILL))
		}, 137, false},
		"other signal": {func(w *world) { w.forward(syscall.SIGUSR1); w.did(1, "SIGUSR1"); w.die(1, exited(0)) }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				c.drive(w)
				w.exits(c.status)
				if (w.err != nil) != c.isErr {
					t.Errorf("error %v", w.err)
				}
			})
		})
	}
}

// TestNextGeneration walks the column "next starting": a failed restart leaves the old generation as it was.
func TestNextGeneration(t *testing.T) {
	for name, c := range map[string]struct {
		drive  func(w *world)
		reason string
	}{
		"exits":  {func(w *world) { w.die(2, exited(3)) }, "exited with status 3"},
		"killed": {func(w *world) { w.die(2, killedBy(syscall.SIGSEGV)) }, "killed by SIGSEGV"},
		"not found": {func(w *world) {
			w.fail(2, &notify.LaunchError{Op: "find", Command: "x", Errno: unix.ENOENT})
			w.did(2, "kill")
			w.die(2, exited(127))
		}, "not found"},
		"timeout": {func(w *world) { w.wait(time.Minute); w.did(2, "kill"); w.die(2, killedBy(syscall.SIGKILL)) }, "not ready within 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.ready(1)
				w.hup()
				c.drive(w)
				w.says(c.reason)
				w.says("restart failed")
				w.did(1, "collect")
				w.hup() // and the next one works
				w.ready(3)
				w.did(1, "collect", "collect", "gate")
			})
		})
	}
	t.Run("can't be launched", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.launches = []error{errors.New("no process to be had")}
			w.hup()
			w.says("no process to be had")
			w.hup()
			w.ready(3)
			w.did(1, "collect", "collect", "gate")
		})
	})
	t.Run("can't be collected for", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.gen(1).collected = errors.New("no descriptors left")
			w.hup()
			w.says("no descriptors left")
			w.count(1)
			w.gen(1).collected = nil
			w.hup()
			w.count(2)
		})
	})
	t.Run("HUPs are one more", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			for range 10 {
				w.hup()
			}
			w.count(2)
			w.ready(2)
			w.count(2) // the old one is being gated: the restart still runs
			w.hup()
			w.gated(1, nil)
			w.count(3)
			w.ready(3)
			w.gated(2, nil)
			w.count(3)
		})
	})
	t.Run("TERM", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.hup()
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "SIGTERM")
			w.did(2, "kill")
			w.die(2, killedBy(syscall.SIGKILL))
			w.die(1, exited(0))
			w.exits(0)
		})
	})
	t.Run("signals go to the current one", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.hup()
			w.forward(syscall.SIGUSR1)
			w.did(1, "collect", "SIGUSR1")
			w.did(2)
		})
	})
}

// TestServiceEndsDuringRestart: the new generation takes over, or, if it fails, huptime ends as the service did.
func TestServiceEndsDuringRestart(t *testing.T) {
	t.Run("ready", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.hup()
			w.die(1, exited(5))
			w.ready(2)
			w.did(2)
			w.hup() // a restart works as ever
			w.count(3)
			w.die(3, exited(1))
			w.die(2, exited(6))
			w.exits(6)
		})
	})
	t.Run("fails", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.hup()
			w.die(1, exited(5))
			w.die(2, exited(1))
			w.exits(5)
		})
	})
}

// TestOldGeneration walks the columns "gating, draining" and "stopping".
func TestOldGeneration(t *testing.T) {
	for name, drive := range map[string]func(w *world){
		"drain timeout": func(w *world) {
			w.wait(time.Hour)
			w.did(1, "collect", "gate", "SIGTERM")
			w.says("drain timeout")
			w.wait(10 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM", "kill")
		},
		"stops in time": func(w *world) {
			w.drained(1)
			w.wait(9 * time.Second)
			w.die(1, exited(0))
			w.wait(time.Minute)
			w.did(1, "collect", "gate", "SIGTERM", "close")
		},
		"ends by itself": func(w *world) {
			w.die(1, exited(0))
			w.did(1, "collect", "gate", "close")
		},
		"cannot be watched": func(w *world) {
			w.gen(1).drained <- errors.New("no netlink")
			synctest.Wait()
			w.did(1, "collect", "gate", "SIGTERM")
		},
		"TERM": func(w *world) {
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "SIGTERM")
			w.did(2, "SIGTERM")
			w.wait(10 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM", "kill")
			w.did(2, "SIGTERM") // its own time is its own
		},
		"the current one ends": func(w *world) {
			w.die(2, exited(9))
			w.did(1, "collect", "gate", "SIGTERM")
			w.die(1, exited(0))
			w.exits(9)
		},
		"TERM twice": func(w *world) {
			w.end(syscall.SIGTERM)
			w.wait(sameKill)
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "SIGTERM", "kill")
			w.did(2, "SIGTERM", "kill")
		},
		"HUP does not wait": func(w *world) {
			w.hup()
			w.count(3)
			w.did(2, "collect")
		},
		"HUP waits at the limit": func(w *world) {
			w.hup()
			w.ready(3)
			w.gated(2, nil)
			w.hup()
			w.count(3)
			w.die(1, exited(0))
			w.count(4)
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, func(w *world) { w.twoGenerations(); drive(w) }) })
	}
	t.Run("gated in part", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.hup()
			w.ready(2)
			w.gated(1, errors.New("one thread does not stop"))
			w.says("one thread does not stop")
			w.drained(1)
			w.did(1, "collect", "gate", "SIGTERM")
		})
	})
	t.Run("opaque", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.hup()
			w.ready(2)
			w.gated(1, errOpaque())
			w.did(1, "collect", "gate", "SIGTERM")
		})
	})
	t.Run("ends while it is gated", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.hup()
			w.ready(2)
			w.die(1, exited(0))
			w.says("restart finished")
			w.hup()
			w.count(3)
		})
	})
}

func errOpaque() error { return fmt.Errorf("process 5: %w", sockets.ErrOpaque) }

// TestRandomWalk throws everything at the machine in any order.
func TestRandomWalk(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"fork":              func(*Config) {},
		"exec":              execMode,
		"revive":            func(c *Config) { c.Revive = ReviveOnFailure },
		"exec and revive":   func(c *Config) { c.Mode, c.Revive = Exec, ReviveAlways },
		"wait, with hangup": func(c *Config) { c.Wait, c.PassHangup = true, true },
	} {
		t.Run(name, func(t *testing.T) { walk(t, change) })
	}
}

func walk(t *testing.T, change func(*Config)) {
	for seed := range uint64(200) {
		runWith(t, change, func(w *world) {
			random := rand.New(rand.NewPCG(seed, 1))
			for range 60 {
				f := w.fakes[max(0, len(w.fakes)-1-random.IntN(4))] // mostly one that lives
				put := func(c chan error, err error) {
					select {
					case c <- err:
					default:
					}
				}
				switch random.IntN(14) {
				case 0, 1, 2:
					put(f.ready, nil)
				case 3, 4:
					put(f.gated, nil)
				case 5:
					put(f.drained, nil)
				case 6, 7, 8:
					select {
					case w.in.hup <- syscall.SIGHUP:
					default:
					}
				case 9:
					w.die(f.number, exited(random.IntN(256)))
				case 10:
					w.forward(syscall.SIGUSR2)
				case 11:
					w.wait(time.Duration(random.IntN(100)) * time.Second)
				case 12:
					put(f.ready, errors.New("broken"))
				case 13:
					if random.IntN(10) == 0 {
						w.end(syscall.SIGTERM)
					}
				}
				synctest.Wait()
				w.invariants(seed)
				select {
				case <-w.result:
					return
				default:
				}
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (w *world) invariants(seed uint64) {
	w.t.Helper()
	select {
	case <-w.result:
		return
	default:
	}
	states := map[state]int{}
	for _, g := range w.m.living {
		states[g.state]++
	}
	if len(w.m.living) > w.m.cfg.MaxGenerations {
		w.t.Errorf("seed %d: %d generations live", seed, len(w.m.living))
	}
	if w.m.cfg.Mode == Exec && len(w.m.living) > 1 {
		w.t.Errorf("seed %d: %d generations live in exec mode", seed, len(w.m.living))
	}
	if states[serving] > 1 || states[starting] > 1 || states[gating] > 1 {
		w.t.Errorf("seed %d: states %v", seed, states)
	}
	if w.m.cfg.Mode == Fork && w.m.current != nil && w.m.current.state != serving || w.m.next != nil && w.m.next.state != starting {
		w.t.Errorf("seed %d: the current or the next generation is in another state", seed)
	}
}
