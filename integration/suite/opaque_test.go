package suite

import (
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// told is what the log says of processes that may not be looked into, with what would lift it.
var told = map[string]string{
	"listeners":   "a process may not be looked into: it is retired by its stop signal alone; give huptime CAP_SYS_PTRACE",
	"connections": "processes may not be looked into: they get their stop signal as soon as they are gated; give huptime CAP_SYS_PTRACE",
}

// oneByOne makes clients with one request each, until stop is called, which tells how many were answered. No request may fail.
func oneByOne(t *testing.T, s service) (stop func() int) {
	var done sync.WaitGroup
	end := make(chan struct{})
	answered := 0
	done.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			if _, err := s.once(); err != nil {
				t.Errorf("after %d requests: %v", answered, err)
				return
			}
			answered++
		}
	})
	return func() int {
		close(end)
		done.Wait()
		return answered
	}
}

// TestOpaqueWorkers: huptime is root's, in a container without CAP_SYS_PTRACE, and the workers are another user's.
func TestOpaqueWorkers(t *testing.T) {
	services := map[string]func(t *testing.T) service{
		"nginx":    nginx,
		"dropping": func(t *testing.T) service { return waits(t, "dropping", 2) },
	}
	for name, make := range services {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				limit := incapable(t, unix.CAP_SYS_PTRACE)
				s := make(t)
				stop := "QUIT" // nginx finishes what it has begun
				if name != "nginx" {
					stop = "TERM"
				}
				h := start(t, append([]string{"--track=" + level, "--stop-signal=" + stop}, s.command...), limit)
				h.await("generation ready", 1)
				finish := func() int { return 0 }
				if name == "nginx" {
					finish = oneByOne(t, s)
				}
				const restarts = 5
				for i := range restarts {
					if s.version != "" {
						write(t, s.version, string(rune('2'+i)))
					}
					h.hup()
					h.await("restart finished", i+2)
					h.await("generation ended", i+1)
					if r := s.mustAnswer(t); s.version != "" && r.version != string(rune('2'+i)) {
						t.Errorf("version %s answers after restart %d", r.version, i+1)
					}
				}
				t.Logf("%d requests were answered", finish())
				if n := h.count(told[level]); n != 1 {
					t.Errorf("the log says %d times what would lift it, want once", n)
				}
				if n := h.count("generation drained"); n > 0 {
					t.Errorf("%d generations that can't be seen are said to be drained", n)
				}
				for _, bad := range []string{"restart failed", "generation killed", "old generation not gated wholly"} {
					if n := h.count(bad); n > 0 {
						t.Errorf("%d times %q", n, bad)
					}
				}
			})
		})
	}
}

// TestURing: what a process accepts by an io_uring can't be seen, so it is named in the log and ended by its stop signal, without
// waiting for a drain that would not end.
func TestURing(t *testing.T) {
	if out, err := exec.Command(compiled(t, "waits"), "probe-uring").CombinedOutput(); err != nil {
		t.Skipf("unsupported here: %s", strings.TrimSpace(string(out)))
	}
	eachLevel(t, func(t *testing.T, level string) {
		s := waits(t, "uring", 0)
		h := s.run(t, level)
		kept := connect(t, s.addr)
		mustSay(t, kept, "1")
		write(t, s.version, "2")
		h.hup()
		h.await("restart finished", 2)
		if e := h.await("a process can't be made to stop accepting: it is retired by its stop signal alone", 1); !strings.Contains(e.Error, "io_uring") || e.PID == 0 {
			t.Errorf("the log says %+v", e)
		}
		if e := h.await("stop signal sent", 1); e.Why != "can't be gated" {
			t.Errorf("the stop signal was sent because %q", e.Why)
		}
		h.await("generation ended", 1)
		if r := s.mustAnswer(t); r.version != "2" {
			t.Errorf("version %s answers", r.version)
		}
		if n := h.count("generation killed"); n > 0 {
			t.Error("it was killed")
		}
	})
}
