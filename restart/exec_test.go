package restart

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func execMode(c *Config) { c.Mode, c.StartRetries = Exec, 3 }

// execGap brings the world to where generation 1 is over and generation 2 starts in its stead.
func (w *world) execGap() {
	w.t.Helper()
	w.ready(1)
	w.hup()
	w.count(1)
	w.gated(1, nil)
	w.drained(1)
	w.count(1)
	w.die(1, killedBy(syscall.SIGTERM))
	w.count(2)
}

func TestExecMode(t *testing.T) {
	for name, drive := range map[string]func(w *world){
		"restart": func(w *world) {
			w.execGap()
			w.did(1, "collect", "gate", "SIGTERM", "close")
			w.ready(2)
			w.says("restart finished")
			w.did(2)
			w.hup()
			w.gated(2, nil)
			w.did(2, "collect", "gate")
			w.die(2, exited(0)) // ended by itself, while it drained
			w.ready(3)
			w.die(3, exited(4))
			w.exits(4)
		},
		"cannot be collected for": func(w *world) {
			w.ready(1)
			w.gen(1).collected = errors.New("no descriptors left")
			w.hup()
			w.did(1)
			w.says("restart failed")
		},
		"opaque": func(w *world) {
			w.ready(1)
			w.hup()
			w.gated(1, errOpaque())
			w.did(1, "collect", "gate", "SIGTERM")
			w.wait(time.Minute) // it finishes its connections
			w.did(1, "collect", "gate", "SIGTERM")
			w.gen(1).finished <- struct{}{}
			w.wait(10 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM", "kill")
			w.die(1, killedBy(syscall.SIGKILL))
			w.ready(2)
		},
		"HUPs while it drains are this restart": func(w *world) {
			w.ready(1)
			w.hup()
			w.hup()
			w.gated(1, nil)
			w.hup()
			w.die(1, exited(0))
			w.count(2)
			w.ready(2)
			w.count(2)
			w.did(2)
		},
		"HUPs while it starts are one more": func(w *world) {
			w.execGap()
			w.hup()
			w.hup()
			w.ready(2)
			w.did(2, "collect", "gate")
			w.gated(2, nil)
			w.die(2, exited(0))
			w.count(3)
		},
		"start fails, and is tried again": func(w *world) {
			w.execGap()
			w.die(2, exited(3))
			w.wait(99 * time.Millisecond)
			w.count(2)
			w.wait(time.Millisecond)
			w.count(3)
			w.die(3, exited(3))
			w.wait(200 * time.Millisecond)
			w.count(4)
			w.ready(4)
			w.die(4, exited(5))
			w.exits(5)
		},
		"start fails for good": func(w *world) {
			w.execGap()
			for n := 2; n <= 4; n++ {
				w.die(n, exited(3))
				w.wait(10 * time.Second)
			}
			w.die(5, exited(7))
			w.exits(7)
			w.says("service given up")
		},
		"HUP between two tries": func(w *world) {
			w.execGap()
			for n := 2; n <= 4; n++ {
				w.die(n, exited(3))
				w.hup()
				w.count(n + 1)
			}
			w.die(5, exited(3)) // the count begins anew with each SIGHUP
			w.wait(time.Second)
			w.count(6)
		},
		"HUP while a start fails": func(w *world) {
			w.execGap()
			w.hup()
			w.die(2, exited(3))
			w.count(3) // at once
		},
		"never ready": func(w *world) {
			w.execGap()
			w.wait(time.Minute)
			w.did(2, "kill")
			w.die(2, killedBy(syscall.SIGKILL))
			w.wait(100 * time.Millisecond)
			w.count(3)
		},
		"can't be launched": func(w *world) {
			w.launches = []error{errors.New("no process to be had")}
			w.ready(1)
			w.hup()
			w.gated(1, nil)
			w.die(1, exited(0))
			w.says("no process to be had")
			w.wait(100 * time.Millisecond)
			w.ready(3)
		},
		"TERM while it drains": func(w *world) {
			w.ready(1)
			w.hup()
			w.gated(1, nil)
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "SIGTERM")
			w.die(1, exited(6))
			w.exits(6)
		},
		"TERM while it starts": func(w *world) {
			w.execGap()
			w.end(syscall.SIGINT)
			w.did(2, "SIGINT")
			w.die(2, killedBy(syscall.SIGINT))
			w.exits(130)
		},
		"TERM between two tries": func(w *world) {
			w.execGap()
			w.die(2, exited(3))
			w.end(syscall.SIGTERM)
			w.exits(143)
		},
		"signals": func(w *world) {
			w.ready(1)
			w.hup()
			w.forward(syscall.SIGUSR1)
			w.did(1, "collect", "gate", "SIGUSR1")
			w.die(1, exited(0))
			w.forward(syscall.SIGUSR2)
			w.did(2, "SIGUSR2")
		},
	} {
		t.Run(name, func(t *testing.T) { runWith(t, execMode, drive) })
	}
}

func TestRevive(t *testing.T) {
	always := func(c *Config) { c.Revive = ReviveAlways }
	for name, c := range map[string]struct {
		change func(*Config)
		drive  func(w *world)
	}{
		"pauses grow": {always, func(w *world) {
			for n := 1; n <= 8; n++ {
				w.ready(n)
				w.die(n, exited(1))
				pause := min(100*time.Millisecond<<(n-1), 5*time.Second)
				w.wait(pause - time.Millisecond)
				w.count(n)
				w.wait(time.Millisecond)
				w.count(n + 1)
			}
			w.ready(9)
			w.wait(10 * time.Second) // it has proved itself
			w.die(9, exited(1))
			w.wait(100 * time.Millisecond)
			w.count(10)
		}},
		"dies before it is ready": {always, func(w *world) {
			w.die(1, exited(1))
			w.wait(100 * time.Millisecond)
			w.count(2)
		}},
		"on failure, and it succeeds": {func(c *Config) { c.Revive = ReviveOnFailure }, func(w *world) {
			w.ready(1)
			w.die(1, exited(0))
			w.exits(0)
		}},
		"on failure": {func(c *Config) { c.Revive = ReviveOnFailure }, func(w *world) {
			w.ready(1)
			w.die(1, killedBy(syscall.SIGSEGV))
			w.wait(100 * time.Millisecond)
			w.count(2)
			w.did(1, "keep", "close")
		}},
		"TERM": {always, func(w *world) {
			w.ready(1)
			w.end(syscall.SIGTERM)
			w.die(1, killedBy(syscall.SIGTERM))
			w.exits(143)
		}},
		"TERM in the pause": {always, func(w *world) {
			w.ready(1)
			w.die(1, exited(1))
			w.end(syscall.SIGTERM)
			w.exits(143)
		}},
		"HUP in the pause": {always, func(w *world) {
			w.ready(1)
			w.die(1, exited(1))
			w.hup()
			w.count(2)
			w.ready(2)
			w.count(2)
		}},
		"dies during a restart, which then fails": {always, func(w *world) {
			w.ready(1)
			w.hup()
			w.die(1, exited(1))
			w.die(2, exited(1))
			w.wait(100 * time.Millisecond)
			w.count(3)
			w.ready(3)
		}},
	} {
		t.Run(name, func(t *testing.T) { runWith(t, c.change, c.drive) })
	}
}

func TestLeftBehind(t *testing.T) {
	t.Run("after TERM they are killed", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.end(syscall.SIGTERM)
			w.leaderDies(1, exited(0))
			w.wait(10 * time.Second)
			w.did(1, "SIGTERM", "SIGTERM to all", "kill")
			w.die(1, exited(0))
			w.exits(0)
		})
	})
	t.Run("a daemon ends as its last process does", func(t *testing.T) {
		run(t, func(w *world) {
			w.leaderDies(1, exited(0))
			w.ready(1)
			w.ended = append(w.ended, reaped{pid: 999, status: killedBy(syscall.SIGSEGV), generation: 1})
			w.die(1, exited(0))
			w.exits(139)
		})
	})
	t.Run("with --wait nobody is killed", func(t *testing.T) {
		runWith(t, func(c *Config) { c.Wait = true }, func(w *world) {
			w.twoGenerations()
			w.drained(1)
			w.wait(24 * time.Hour)
			w.did(1, "collect", "gate", "SIGTERM")
		})
	})
}

// leaderDies ends a generation's leader alone.
func (w *world) leaderDies(n int, status Status) {
	w.ended = append(w.ended, reaped{pid: w.gen(n).Leader(), status: status})
	w.in.child <- syscall.SIGCHLD
	synctest.Wait()
}
