package restart

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFaultC4Rest: a leader that ends by its stop signal, while others live, leaves it to them: once, when their connections
// are finished, and at the latest after half of the time that they have.
func TestFaultC4Rest(t *testing.T) {
	stopped := func(w *world) {
		w.twoGenerations()
		w.drained(1)
		w.did(1, "collect", "gate", "SIGTERM")
	}
	t.Run("finished", func(t *testing.T) {
		run(t, func(w *world) {
			stopped(w)
			w.gen(1).finished <- struct{}{}
			w.leaderDies(1, exited(0))
			w.did(1, "collect", "gate", "SIGTERM", "SIGTERM to all")
			w.wait(10 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM", "SIGTERM to all", "kill")
		})
	})
	t.Run("not finished", func(t *testing.T) {
		run(t, func(w *world) {
			stopped(w)
			w.leaderDies(1, exited(0))
			w.wait(4 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM")
			w.wait(time.Second)
			w.did(1, "collect", "gate", "SIGTERM", "SIGTERM to all")
		})
	})
	t.Run("before its time is limited", func(t *testing.T) {
		run(t, func(w *world) {
			w.leaderDies(1, exited(0)) // a daemon: those that it has left behind get the first signal
			w.ready(1)
			w.hup()
			w.ready(2)
			w.gated(1, nil)
			w.drained(1)
			w.wait(9 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM")
		})
	})
	t.Run("with --stop-group all get it at once", func(t *testing.T) {
		runWith(t, func(c *Config) { c.StopGroup = true }, func(w *world) {
			w.twoGenerations()
			w.drained(1)
			w.leaderDies(1, exited(0))
			w.wait(9 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM to all")
			w.end(syscall.SIGINT)
			w.did(2, "SIGINT to all")
		})
	})
	t.Run("the wrapper is named", func(t *testing.T) {
		run(t, func(w *world) {
			w.ready(1)
			w.gen(1).wrapper = "make"
			w.hup()
			w.ready(2)
			w.gated(1, nil)
			w.drained(1)
			w.wait(10 * time.Second)
			w.says("make did not hand the stop signal on")
			w.says("--stop-group")
		})
	})
}

// TestFaultC5SameKill: a second TERM that comes right behind the first is the same kill's.
func TestFaultC5SameKill(t *testing.T) {
	run(t, func(w *world) {
		w.ready(1)
		w.end(syscall.SIGTERM)
		w.end(syscall.SIGTERM)
		w.wait(900 * time.Millisecond)
		w.end(syscall.SIGTERM)
		w.did(1, "SIGTERM")
		w.wait(100 * time.Millisecond)
		w.end(syscall.SIGTERM)
		w.did(1, "SIGTERM", "kill")
	})
	run(t, func(w *world) {
		w.ready(1)
		w.end(syscall.SIGTERM)
		w.end(syscall.SIGINT) // another one, which somebody has meant
		w.did(1, "SIGTERM", "kill")
	})
}

// TestFaultC5Begun: a restart that fails before its start is not said to be finished by what comes later.
func TestFaultC5Begun(t *testing.T) {
	runWith(t, func(c *Config) { c.Revive = ReviveAlways }, func(w *world) {
		w.ready(1)
		w.gen(1).collected = errors.New("no descriptors left")
		w.hup()
		w.says("no descriptors left")
		w.die(1, exited(1))
		w.wait(time.Second)
		w.ready(2)
		if strings.Contains(w.log.String(), "restart finished") {
			t.Error("a start after a sudden end is said to be a restart")
		}
	})
}

// TestFaultC4OnProbation: endings reach the old generation that stands by, and one that has failed, as they reach others.
func TestFaultC4OnProbation(t *testing.T) {
	stopGroup := func(c *Config) { c.StopGroup = true }
	t.Run("what a leader on standby leaves behind", func(t *testing.T) {
		onProbation(t, unchanged, func(w *world) {
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "SIGTERM")
			w.leaderDies(1, exited(0))
			w.gen(1).finished <- struct{}{}
			w.wait(0)
			w.did(1, "collect", "gate", "SIGTERM", "SIGTERM to all")
			w.wait(10 * time.Second)
			w.did(1, "collect", "gate", "SIGTERM", "SIGTERM to all", "kill")
		})
	})
	t.Run("standby, --stop-group", func(t *testing.T) {
		onProbation(t, stopGroup, func(w *world) {
			w.end(syscall.SIGINT)
			w.did(1, "collect", "gate", "SIGTERM to all")
			w.did(2, "SIGINT to all")
		})
	})
	t.Run("trusted, --stop-group", func(t *testing.T) {
		onProbation(t, stopGroup, func(w *world) {
			w.wait(time.Second)
			w.drained(1)
			w.did(1, "collect", "gate", "SIGTERM to all")
		})
	})
	t.Run("TERM that comes twice at once on standby", func(t *testing.T) {
		onProbation(t, unchanged, func(w *world) {
			w.end(syscall.SIGTERM)
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "SIGTERM")
			w.did(2, "SIGTERM")
			w.wait(sameKill)
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "SIGTERM", "kill")
			w.did(2, "SIGTERM", "kill")
		})
	})
	t.Run("a wrapper that fails on probation", func(t *testing.T) {
		onProbation(t, unchanged, func(w *world) {
			w.leaderDies(2, exited(3))
			w.did(2, "kill") // whom it leaves behind is killed with it: the old one takes over
			w.gen(1).ungated <- nil
			w.wait(10 * time.Second)
			w.did(1, "collect", "gate", "ungate")
			w.did(2, "kill")
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "ungate", "SIGTERM")
		})
	})
	t.Run("stopped after it took over again", func(t *testing.T) {
		onProbation(t, unchanged, func(w *world) {
			w.die(2, exited(1))
			w.gen(1).ungated <- nil
			w.wait(0)
			w.end(syscall.SIGTERM)
			w.leaderDies(1, exited(0))
			w.wait(5 * time.Second)
			w.did(1, "collect", "gate", "ungate", "SIGTERM", "SIGTERM to all")
		})
	})
}
