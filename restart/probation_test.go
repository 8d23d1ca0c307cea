package restart

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// onProbation is runWith for a machine with a probation of a second, at the moment when generation 2 is on it.
func onProbation(t *testing.T, change func(*Config), drive func(w *world)) {
	t.Helper()
	runWith(t, func(c *Config) {
		c.MinReady = time.Second
		change(c)
	}, func(w *world) {
		w.twoGenerations()
		drive(w)
	})
}

func unchanged(*Config) {}

// TestProbation walks what can happen in a probation.
func TestProbation(t *testing.T) {
	for name, drive := range map[string]func(w *world){
		"it passes": func(w *world) {
			w.did(1, "collect", "gate")
			w.drained(1) // not asked for yet
			w.did(1, "collect", "gate")
			w.wait(time.Second)
			w.did(1, "collect", "gate", "SIGTERM")
			w.says("restart finished")
		},
		"the new one dies": func(w *world) {
			w.wait(700 * time.Millisecond)
			w.die(2, exited(1))
			w.did(1, "collect", "gate", "ungate")
			w.gen(1).ungated <- nil
			w.wait(0)
			w.says("exited with status 1, 700ms after it was ready")
			w.says("restart failed")
			w.says("serves=1")
			w.hup()
			w.count(3)
			w.did(1, "collect", "gate", "ungate", "collect")
		},
		"its probe fails": func(w *world) {
			w.gen(2).bad <- errors.New("http://x answered 500")
			w.wait(0)
			w.did(2, "kill")
			w.did(1, "collect", "gate", "ungate")
			w.gen(1).ungated <- nil
			w.die(2, killedBy(syscall.SIGKILL))
			w.says("http://x answered 500, ")
			w.says("restart failed")
		},
		"its leader dies": func(w *world) {
			w.ended = append(w.ended, reaped{pid: w.gen(2).Leader(), status: killedBy(syscall.SIGSEGV)})
			w.in.child <- syscall.SIGCHLD
			w.wait(0)
			w.did(2, "kill")
			w.did(1, "collect", "gate", "ungate")
			w.gen(1).ungated <- nil
			w.die(2, killedBy(syscall.SIGSEGV))
			w.says("killed by SIGSEGV")
		},
		"a daemon's leader ends": func(w *world) {
			w.ended = append(w.ended, reaped{pid: w.gen(2).Leader(), status: exited(0)})
			w.in.child <- syscall.SIGCHLD
			w.wait(time.Second)
			w.did(1, "collect", "gate")
			w.says("restart finished")
		},
		"the old one dies": func(w *world) {
			w.die(1, exited(0))
			w.says("restart finished")
			w.die(2, exited(5))
			w.exits(5)
		},
		"both die": func(w *world) {
			w.die(2, exited(4))
			w.die(1, exited(3))
			w.exits(3)
		},
		"HUP waits for its end": func(w *world) {
			w.hup()
			w.count(2)
			w.wait(time.Second)
			w.count(3)
		},
		"HUP ends it once it serves": func(w *world) {
			w.hup()
			w.gen(2).serving <- struct{}{}
			w.wait(0)
			w.count(3)
		},
		"TERM": func(w *world) {
			w.end(syscall.SIGTERM)
			w.did(2, "SIGTERM")
			w.did(1, "collect", "gate", "SIGTERM")
			w.die(1, exited(0))
			w.die(2, exited(7))
			w.exits(7)
		},
		"TERM on the way back": func(w *world) {
			w.die(2, exited(4))
			w.end(syscall.SIGTERM)
			w.did(1, "collect", "gate", "ungate", "SIGTERM")
			w.die(1, exited(6))
			w.exits(6)
		},
	} {
		t.Run(name, func(t *testing.T) { onProbation(t, unchanged, drive) })
	}
}

// TestProbationWhileGating: the new one dies before the old one is gated wholly.
func TestProbationWhileGating(t *testing.T) {
	runWith(t, func(c *Config) { c.MinReady = time.Second }, func(w *world) {
		w.ready(1)
		w.hup()
		w.ready(2)
		w.die(2, exited(1))
		w.did(1, "collect", "gate", "ungate") // its gating was given up
		w.gen(1).ungated <- nil
		w.wait(0)
		w.says("restart failed")
	})
}

// TestProbationOpaque: one that could not be gated is not stopped before the new one is trusted.
func TestProbationOpaque(t *testing.T) {
	runWith(t, func(c *Config) { c.MinReady = time.Second }, func(w *world) {
		w.ready(1)
		w.hup()
		w.ready(2)
		w.gated(1, errOpaque())
		w.did(1, "collect", "gate")
		w.wait(time.Second)
		w.did(1, "collect", "gate", "SIGTERM")
	})
}

// TestProbationInExecMode: what dies on probation there is started again, and its clients wait.
func TestProbationInExecMode(t *testing.T) {
	runWith(t, func(c *Config) { c.MinReady, c.Mode, c.StartRetries = time.Second, Exec, 3 }, func(w *world) {
		w.ready(1)
		w.hup()
		w.gated(1, nil)
		w.drained(1)
		w.die(1, killedBy(syscall.SIGTERM))
		w.ready(2)
		w.die(2, exited(1))
		w.wait(shortestPause)
		w.count(3)
		w.ready(3)
		w.wait(time.Second)
		w.says("restart finished")
		w.die(3, exited(9))
		w.exits(9)
	})
}

// TestReadyTimeoutInWords: a restart that takes too long says what was missing.
func TestReadyTimeoutInWords(t *testing.T) {
	run(t, func(w *world) {
		w.ready(1)
		w.hup()
		w.gen(2).lacking = "nobody waits for clients on tcp://127.0.0.1:80"
		w.wait(time.Minute)
		w.die(2, killedBy(syscall.SIGKILL))
		w.says("not ready within 1m0s: nobody waits for clients on tcp://127.0.0.1:80")
		w.fail(2, errors.New("too late"))
	})
}

// TestNothingToGoBackTo: where no old generation is left, one that serves some of the addresses stays.
func TestNothingToGoBackTo(t *testing.T) {
	run(t, func(w *world) {
		w.ready(1)
		w.hup()
		w.gen(2).lacking, w.gen(2).undropped = "it has not bound tcp://127.0.0.1:81", true
		w.die(1, exited(1))
		w.wait(time.Minute)
		w.did(2)
		w.says("counts as ready")
	})
}

// TestDoubt: a generation that was ready and does not accept starts again, and the old one serves meanwhile.
func TestDoubt(t *testing.T) {
	runWith(t, func(c *Config) { c.MinReady = time.Second }, func(w *world) {
		w.ready(1)
		w.hup()
		w.gen(2).accepting = make(chan error, 1)
		w.ready(2)
		w.gated(1, nil)
		w.gen(2).accepting <- errors.New("nobody accepts on a")
		w.wait(0)
		w.did(1, "collect", "gate", "ungate")
		w.did(2, "doubt")
		w.gen(1).ungated <- nil
		w.ready(2)
		w.gated(1, nil)
		w.wait(2 * time.Second)
		w.did(1, "collect", "gate", "ungate", "gate") // it is not trusted before it has accepted
		w.gen(2).accepting <- nil
		w.wait(0)
		w.says("restart finished")
	})
}

// TestDoubtedToTheEnd: one that never accepts is given up when its time is over.
func TestDoubtedToTheEnd(t *testing.T) {
	runWith(t, func(c *Config) { c.MinReady = time.Second }, func(w *world) {
		w.ready(1)
		w.hup()
		w.gen(2).accepting = make(chan error, 1)
		w.ready(2)
		w.gated(1, nil)
		w.gen(2).accepting <- errors.New("nobody accepts on a")
		w.wait(0)
		w.gen(1).ungated <- nil
		w.gen(2).lacking = "nobody accepts on a"
		w.wait(time.Minute)
		w.did(2, "doubt", "kill")
		w.die(2, killedBy(syscall.SIGKILL))
		w.says("not ready within 1m0s: nobody accepts on a")
		w.die(1, exited(3))
		w.exits(3)
	})
}
