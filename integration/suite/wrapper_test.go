package suite

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFaultC4Wrapper: the stop signal ends a wrapper, and what it has started gets it then, once; or all get it (--stop-group).
func TestFaultC4Wrapper(t *testing.T) {
	for name, c := range map[string]struct{ script, flag string }{
		"dies of it":                  {`"$0" "$@"; true`, "--stop-group=false"},
		"waits in the background":     {`"$0" "$@" & wait`, "--stop-group=false"},
		"dies of it, --stop-group":    {`"$0" "$@"; true`, "--stop-group"},
		"holds it back, all get it":   {`trap : TERM; "$0" "$@"; true`, "--stop-group"},
		"two of them, all get it":     {`trap : TERM; sh -c 'trap : TERM; "$0" "$@"; true' "$0" "$@"; true`, "--stop-group"},
		"leaves a session of its own": {`setsid "$0" "$@"; true`, "--stop-group=false"},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := golang(t)
				s.command = append([]string{"/bin/sh", "-c", c.script}, s.command...)
				h := s.run(t, level, "--kill-after=20s", c.flag)
				for i := range 2 {
					began := time.Now()
					restarts(t, h, s, i+2)
					h.await("generation ended", i+1)
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("restart %d took %s: the signal came to half of --kill-after", i+1, took)
					}
				}
				h.signal(syscall.SIGTERM)
				h.await("generation ended", 3)
				h.exit()
				if n := h.count("generation killed"); n > 0 {
					t.Errorf("%d generations were killed", n)
				}
			})
		})
	}
}

// TestFaultC4Hint: where the signal was held back the log names who did.
func TestFaultC4Hint(t *testing.T) {
	for name, command := range map[string][]string{
		"sh":   {"/bin/sh", "-c", `trap : TERM; "$0" "$@"; true`},
		"dash": {"/usr/bin/dash", "-c", `trap : TERM; "$0" "$@"; true`},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				program(t, command[0])
				s := golang(t)
				s.command = append(append([]string(nil), command...), s.command...)
				h := s.run(t, level, "--kill-after=300ms")
				restarts(t, h, s, 2)
				e := h.await("generation killed", 1)
				if !strings.HasPrefix(e.Hint, name+" did not hand the stop signal on") || !strings.Contains(e.Hint, "--stop-group") {
					t.Errorf("the hint is %q", e.Hint)
				}
				h.await("generation ended", 1)
				mustKill(t, h.await("generation started", 2).PID, syscall.SIGKILL)
			})
		})
	}
	t.Run("no wrapper", func(t *testing.T) {
		s := golang(t, "-ignore-term")
		h := s.run(t, "listeners", "--kill-after=300ms")
		restarts(t, h, s, 2)
		if e := h.await("generation killed", 1); e.Hint != "" {
			t.Errorf("the hint is %q", e.Hint)
		}
		mustKill(t, h.await("generation started", 2).PID, syscall.SIGKILL)
	})
}
