package suite

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestSlowRequestStraddlesRestart(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level)
		c := connect(t, s.addr)
		mustSay(t, c, "1")
		type result struct {
			r   reply
			err error
		}
		answer := make(chan result, 1)
		go func() {
			r, err := get(c, "/slow?ms=2000")
			answer <- result{r, err}
		}()
		// The request is on its way when another on the same service has been answered after it.
		s.mustAnswer(t)
		write(t, s.version, "2")
		h.hup()
		h.await("restart finished", 2)
		if r := s.mustAnswer(t); r.version != "2" {
			t.Errorf("version %s answers after the restart", r.version)
		}
		got := <-answer
		if got.err != nil || got.r.version != "1" {
			t.Errorf("the slow request: %+v, %v", got.r, got.err)
		}
		c.conn.Close()
		h.await("generation ended", 1)
	})
}

// TestBadNewVersion: a new version that can't start leaves the old one serving, the log says why, and a good one and one more HUP is all it takes.
func TestBadNewVersion(t *testing.T) {
	cases := map[string]struct{ config, reason string }{
		"exits":       {"exit=3", "exited with status 3"},
		"exits 0":     {"exit=0", "exited with status 0"},
		"crashes":     {"kill=11", "SIG"}, // the Go runtime turns SIGSEGV from outside into a death by a signal or status 2
		"is killed":   {"kill=9", "killed by SIGKILL"},
		"never ready": {"never", "not ready within 5s"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := golang(t)
				h := s.run(t, level, "--ready-timeout=5s")
				old := s.mustAnswer(t)
				l := startLoad(t, s.addr, s.ask, 2)
				write(t, s.config, c.config)
				h.hup()
				failed := h.await("restart failed", 2)
				if !strings.Contains(failed.Reason, c.reason) && name != "crashes" {
					t.Errorf("the reason is %q, want %q", failed.Reason, c.reason)
				}
				if r := s.mustAnswer(t); r.pid != old.pid {
					t.Errorf("%s answers after the failed restart, want %s", r.pid, old.pid)
				}
				os.Remove(s.config)
				h.hup()
				h.await("restart finished", 3)
				if r := s.mustAnswer(t); r.pid == old.pid {
					t.Error("the old generation answers after the good restart")
				}
				l.check(name)
				h.await("generation ended", 1)
			})
		})
	}
}

// TestCommandGone: the command itself is missing when it is restarted.
func TestCommandGone(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		binary := t.TempDir() + "/service"
		b, err := os.ReadFile(goserver)
		if err != nil {
			t.Fatal(err)
		}
		install := func() {
			write(t, binary, string(b))
			os.Chmod(binary, 0o755)
		}
		install()
		s.command[0] = binary
		h := s.run(t, level)
		old := s.mustAnswer(t)
		os.Remove(binary)
		h.hup()
		if e := h.await("restart failed", 2); !strings.Contains(e.Reason, "not found") {
			t.Errorf("the reason is %q", e.Reason)
		}
		if r := s.mustAnswer(t); r.pid != old.pid {
			t.Error("another process answers")
		}
		install()
		h.hup()
		h.await("restart finished", 3)
	})
}

func TestHUPsAreOneMoreRestart(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level)
		l := startLoad(t, s.addr, s.ask, 2)
		write(t, s.config, "delay=500ms")
		h.hup()
		h.await("generation started", 2)
		for range 10 {
			h.hup()
		}
		h.await("restart finished", 3)
		h.await("generation ended", 2)
		// A fourth would have begun by now: the third was ready, and nothing was in its way.
		if n := h.count("restart begun"); n != 2 {
			t.Errorf("%d restarts, want 2", n)
		}
		l.check("storm")
	})
}

func TestHUPWaitsForTheFirstGeneration(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		write(t, s.config, "delay=500ms")
		h := start(t, append([]string{"--track=" + level}, s.command...))
		h.await("generation started", 1)
		h.hup()
		h.await("restart finished", 2)
		if h.count("generation ready") != 2 {
			t.Error("the restart did not wait for generation 1")
		}
		s.mustAnswer(t)
	})
}

func TestDrainTimeout(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level, "--drain-timeout=300ms")
		mustSay(t, connect(t, s.addr), "1") // and stays open
		h.hup()
		if e := h.await("stop signal sent", 1); e.Why != "drain timeout" || e.Signal != "SIGTERM" {
			t.Errorf("%+v", e)
		}
		if e := h.await("generation ended", 1); e.Status != "killed by SIGTERM" {
			t.Errorf("%+v", e)
		}
		s.mustAnswer(t)
	})
}

func TestKillAfter(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t, "-ignore-term")
		h := s.run(t, level, "--kill-after=200ms")
		h.hup()
		h.await("generation killed", 1)
		if e := h.await("generation ended", 1); e.Status != "killed by SIGKILL" {
			t.Errorf("%+v", e)
		}
		s.mustAnswer(t)
		h.signal(15)                        // ignored; the second one kills
		time.Sleep(1100 * time.Millisecond) // one that comes within a second is part of the first
		h.signal(15)
		if status := h.exit(); status != 137 {
			t.Errorf("exit status %d, want 137", status)
		}
	})
}

func TestStopSignal(t *testing.T) {
	s := golang(t)
	h := s.run(t, "listeners", "--stop-signal=int")
	h.hup()
	if e := h.await("generation ended", 1); e.Status != "killed by SIGINT" {
		t.Errorf("%+v", e)
	}
}
