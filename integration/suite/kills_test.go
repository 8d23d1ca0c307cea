package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilled walks the states of restart/doc.go with real processes: who is killed when, what becomes of huptime, and who answers after that.
// In every one but those in which the service itself ends, a load runs beside it of which nothing may fail.
func TestKilled(t *testing.T) {
	for name, c := range map[string]struct {
		flags  []string
		config string // how the generation to come behaves
		more   []string
		two    bool // it listens on two addresses
		drive  func(t *testing.T, s service, h *supervisor)
		status int // with which huptime ends; -1: it lives on and the load goes well
	}{
		"first generation, starting": {config: "never", status: 137, drive: func(t *testing.T, s service, h *supervisor) {
			mustKill(t, h.await("generation started", 1).PID, 9)
		}},
		"serving": {status: 137, drive: func(t *testing.T, s service, h *supervisor) {
			mustKill(t, h.await("generation started", 1).PID, 9)
		}},
		"next generation, starting": {status: -1, drive: func(t *testing.T, s service, h *supervisor) {
			write(t, s.config, "never")
			h.hup()
			mustKill(t, h.await("generation started", 2).PID, 9)
			h.await("restart failed", 2)
			os.Remove(s.config)
			h.hup()
			h.await("restart finished", 3)
		}},
		"next generation, between its two binds": {two: true, status: -1, drive: func(t *testing.T, s service, h *supervisor) {
			write(t, s.config, "between=1h")
			h.hup()
			h.await("preserved socket planted", 2)
			mustKill(t, h.await("generation started", 2).PID, 9)
			h.await("restart failed", 2)
			os.Remove(s.config)
			h.hup()
			h.await("restart finished", 3)
		}},
		"old generation, draining": {status: -1, drive: func(t *testing.T, s service, h *supervisor) {
			held := connect(t, s.addr)
			mustSay(t, held, "1")
			h.hup()
			h.await("restart finished", 2)
			leader := h.await("generation started", 1).PID
			awaitSockets(t, leader, 2) // its placeholder and the held connection: what the load had begun there has ended
			mustKill(t, leader, 9)
			h.await("generation ended", 1)
		}},
		"old generation, stopping": {more: []string{"-ignore-term"}, flags: []string{"--kill-after=1h"}, status: -1, drive: func(t *testing.T, s service, h *supervisor) {
			h.hup()
			h.await("stop signal sent", 1)
			mustKill(t, h.await("generation started", 1).PID, 9)
			h.await("generation ended", 1)
			second := h.await("generation started", 2).PID
			t.Cleanup(func() { mustKill(t, second, 9) }) // it would not end by SIGTERM
		}},
		"serving, while the next one starts": {config: "", status: -2, drive: func(t *testing.T, s service, h *supervisor) {
			write(t, s.config, "delay=300ms")
			h.hup()
			h.await("generation started", 2)
			mustKill(t, h.await("generation started", 1).PID, 9)
			h.await("generation ready", 2)
			s.mustAnswer(t)
		}},
		"both, while the next one starts": {status: 137, drive: func(t *testing.T, s service, h *supervisor) {
			write(t, s.config, "never")
			h.hup()
			next := h.await("generation started", 2).PID
			mustKill(t, h.await("generation started", 1).PID, 9)
			mustKill(t, next, 9)
		}},
		"old generation, draining in exec mode": {flags: []string{"--exec"}, status: -2, drive: func(t *testing.T, s service, h *supervisor) {
			held := connect(t, s.addr)
			mustSay(t, held, "1")
			h.hup()
			h.await("generation gated", 1)
			mustKill(t, h.await("generation started", 1).PID, 9)
			h.await("restart finished", 2)
			s.mustAnswer(t)
		}},
		"huptime stopped and continued in a restart": {status: -1, drive: func(t *testing.T, s service, h *supervisor) {
			for i := range 3 {
				h.hup()
				h.await("restart begun", i+2)
				h.signal(syscall.SIGSTOP)
				time.Sleep(100 * time.Millisecond) // nothing can happen, and that is what is waited for
				h.signal(syscall.SIGCONT)
				h.await("restart finished", i+2)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := golang(t, c.more...)
				if c.two {
					s.command = append(s.command, "-addr", fmt.Sprintf("%s,127.0.0.1:%d", s.addr, freePort(t)))
				}
				if c.config != "" {
					write(t, s.config, c.config)
				}
				h := start(t, append(append([]string{"--track=" + level}, c.flags...), s.command...))
				if c.config == "" {
					h.await("generation ready", 1)
				}
				var l *load
				if c.status == -1 {
					l = startLoad(t, s.addr, s.ask, 2)
					l.awaitNewPID(0)
				}
				c.drive(t, s, h)
				switch {
				case l != nil:
					s.mustAnswer(t)
					l.check(name)
				case c.status >= 0:
					if status := h.exit(); status != c.status {
						t.Errorf("exit status %d, want %d", status, c.status)
					}
				}
			})
		})
	}
}

// awaitSockets waits until a process has so many sockets left.
func awaitSockets(t *testing.T, pid, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		n := 0
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
				n++
			}
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d has %d sockets, want %d", pid, n, want)
		}
	}
}
