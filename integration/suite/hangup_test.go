package suite

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestFaultC1Hangup: a server that uses SIGHUP inside stops as it was written, and is deaf to that of others until
// then.
func TestFaultC1Hangup(t *testing.T) {
	for _, how := range []string{"thread", "epoll", "master", "forked", "raise", "kill", "tkill", "queue"} {
		t.Run(how, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				// A thread that something else wakes at the right moment may end its process before it has heard.
				alone := !slices.Contains([]string{"thread", "epoll", "master", "forked"}, how)
				port := freePort(t)
				addr := fmt.Sprintf("127.0.0.1:%d", port)
				h := start(t, []string{"--track=" + level, compiled(t, "hupsig"), how, strconv.Itoa(port)})
				h.await("generation ready", 1)
				for i := range 3 {
					before := mustAsk(t, addr)
					for _, pid := range h.processes() {
						syscall.Kill(pid, syscall.SIGHUP) // as killall does
					}
					for range 3 {
						if got := mustAsk(t, addr); got != before {
							t.Errorf("%s answers after a SIGHUP from outside, want %s", got, before)
						}
					}
					if n := h.said("heard"); n > i || alone && n != i {
						t.Errorf("a SIGHUP from outside was heard: %d times before restart %d", n, i+1)
					}
					began := time.Now()
					h.hup()
					h.await("restart finished", i+2)
					e := h.await("generation ended", i+1)
					if e.Status != "exited with status 0" {
						t.Errorf("generation %d %s", i+1, e.Status)
					}
					if alone {
						h.await("a process sends SIGHUP to itself: its handler was installed, and it is no longer deaf to SIGHUP", i+1)
					}
					if took := time.Since(began); took > 8*time.Second {
						t.Errorf("restart %d took %s", i+1, took)
					}
					if n := h.said("heard"); alone && n != i+1 {
						t.Errorf("its own SIGHUP was heard %d times in %d generations", n, i+1)
					}
				}
				h.signal(syscall.SIGTERM)
				if status := h.exit(); status != 0 {
					t.Errorf("exit status %d, want 0", status)
				}
				for _, bad := range []string{"another sender", "the wrong handler"} {
					if h.said(bad) > 0 {
						t.Errorf("the service says: %s", bad)
					}
				}
			})
		})
	}
}

// TestFaultC1Sandboxed: a process that can't be given its handler late goes on, and misses its SIGHUP once. What
// starts from then on hears.
func TestFaultC1Sandboxed(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		port := freePort(t)
		h := start(t, []string{"--track=" + level, compiled(t, "hupsig"), "sandbox", strconv.Itoa(port)})
		h.await("generation ready", 1)
		for i := range 3 {
			mustAsk(t, fmt.Sprintf("127.0.0.1:%d", port))
			h.hup()
			h.await("restart finished", i+2)
			e := h.await("generation ended", i+1)
			want := "exited with status 0"
			if i == 0 || i == 1 && h.said("heard") == 0 {
				want = "exited with status 3" // the second one set its handler before the first one sent anything
			}
			if e.Status != want {
				t.Errorf("generation %d %s, want %s", i+1, e.Status, want)
			}
		}
		const advice = "a process sends SIGHUP to itself and can't hear it; whoever sets a handler from now on will: " +
			"use --hup=pass to have that from the beginning"
		h.await(advice, 1)
		h.signal(syscall.SIGTERM)
		if status := h.exit(); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
	})
}

// said tells how often the service has written this line.
func (s *supervisor) said(line string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.output {
		if l == line {
			n++
		}
	}
	return n
}
