package suite

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// copies is how many copies of the service the tests of --multi run.
const copies = 4

// TestMulti: a single-process server becomes a pool. Six restarts under load, with one socket for all copies and with one for each.
func TestMulti(t *testing.T) {
	const restarts = 6
	for _, flags := range [][]string{{"--multi=4"}, {"--multi=4", "--multi-reuseport"}, {"--multi=4", "--exec"}} {
		for name, make := range map[string]func(t *testing.T) service{
			"thread": func(t *testing.T) service { return python(t, "thread") },
			"go":     func(t *testing.T) service { return golang(t) },
		} {
			t.Run(fmt.Sprint(name, flags), func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					s := make(t)
					h := s.run(t, level, flags...)
					l := startLoad(t, s.addr, s.ask, clients)
					l.awaitNewPID(copies - 1)
					for i := range restarts {
						before := l.pids()
						h.hup()
						h.await("restart finished", i+2)
						l.awaitNewPID(before + copies - 1) // every copy answers
						h.await("generation ended", i+1)
					}
					l.check(fmt.Sprint(name, flags, " at ", level))
					for _, bad := range []string{"restart failed", "generation killed", "old generation not gated wholly"} {
						if n := h.count(bad); n > 0 {
							t.Errorf("%d times %q", n, bad)
						}
					}
				})
			})
		}
	}
}

// TestMultiRevive: a copy that dies alone is started again; the others go on meanwhile.
func TestMultiRevive(t *testing.T) {
	for _, more := range []string{"--multi=4", "--multi-reuseport"} {
		t.Run(more[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := golang(t)
				h := s.run(t, level, "--multi=4", more, "--revive")
				seen := map[string]bool{}
				for len(seen) < copies {
					seen[s.mustAnswer(t).pid] = true
				}
				h.until("the sockets to be kept", func() bool { return h.has("listening socket kept", 1) })
				for pid := range seen {
					n, _ := strconv.Atoi(pid)
					mustKill(t, n, 9)
					break
				}
				h.await("copy is started again", 0)
				for len(seen) < copies+1 {
					seen[s.mustAnswer(t).pid] = true
				}
				h.hup()
				h.await("restart finished", 2)
				h.await("generation ended", 1)
				s.mustAnswer(t)
			})
		})
	}
}

// TestMultiBadVersion: one copy that can't start fails the whole generation, and the old one serves on.
func TestMultiBadVersion(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level, "--multi=4", "--revive")
		l := startLoad(t, s.addr, s.ask, 2)
		write(t, s.config, "exit=3")
		h.hup()
		if e := h.await("restart failed", 2); !strings.HasPrefix(e.Reason, "exited with status 3, ") {
			t.Errorf("%+v", e)
		}
		l.check("beside the failed restart")
	})
}

func TestMultiStatus(t *testing.T) {
	t.Parallel()
	s := golang(t, "-report-signals")
	h := s.run(t, "listeners", "--multi=2")
	h.signal(10)
	h.awaitOutput("signal=10")
	h.signal(3) // each copy ends with 42
	if status := h.exit(); status != 42 {
		t.Errorf("exit status %d, want 42", status)
	}
}
