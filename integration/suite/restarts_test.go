package suite

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// usualServices are servers of every kind.
var usualServices = map[string]func(t *testing.T) service{
	"nginx":   nginx,
	"redis":   redis,
	"node":    node,
	"go":      func(t *testing.T) service { return golang(t) },
	"thread":  func(t *testing.T) service { return python(t, "thread") },
	"asyncio": func(t *testing.T) service { return python(t, "asyncio") },
	"prefork": func(t *testing.T) service { return python(t, "prefork") },
	"select":  func(t *testing.T) service { return python(t, "select") },
}

// TestTwentyRestarts is the heart of the matter: 20 restarts in a row under 16 clients, eight with a connection for each request and eight
// with kept-alive ones. Not one request may fail, each restart's processes must be seen answering, and no old generation may stay.
func TestTwentyRestarts(t *testing.T) {
	const restarts = 20
	for name, make := range usualServices {
		t.Run(name, func(t *testing.T) {
			for _, level := range append(slices.Clone(levels), "calls") {
				t.Run(level, func(t *testing.T) {
					s := make(t)
					h := s.run(t, level)
					pid := h.cmd.Process.Pid
					h.restartsUnderLoad(s, restarts, name+" at "+level)
					if h.cmd.Process.Pid != pid || h.cmd.Process.Signal(syscall.Signal(0)) != nil {
						t.Error("huptime is not the process that it was")
					}
				})
			}
		})
	}
}

// TestLoneClient is of one client, behind whom nobody comes who would wake somebody up for it. Of nginx's workers, which wait with
// EPOLLEXCLUSIVE, the kernel tells one of a client, and that one may be gated the next moment. Without [sockets.Preserved.Wake] one restart
// of ten to a hundred left the client waiting.
func TestLoneClient(t *testing.T) {
	const restarts = 40
	services := map[string]func(t *testing.T) service{
		"nginx":   nginx,
		"prefork": func(t *testing.T) service { return python(t, "prefork") }, // its workers wait in accept
	}
	for name, make := range services {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				h := s.run(t, level)
				h.restartsUnder(startClients(t, s.addr, s.ask, 1), restarts, func(int) {}, "one client of "+name+" at "+level)
			})
		})
	}
}

// restartsUnderLoad restarts the service so many times in a row under 16 clients, and fails the test where a request fails, no new process
// answers, an old generation stays, or the log has a line that it should not have: any of the usual ones, and of more.
func (h *supervisor) restartsUnderLoad(s service, restarts int, what string, more ...string) {
	h.t.Helper()
	h.changesUnderLoad(s, restarts, func(int) {}, what, more...)
}

// changesUnderLoad is restartsUnderLoad, and changes something before each restart.
func (h *supervisor) changesUnderLoad(s service, restarts int, change func(i int), what string, more ...string) {
	h.t.Helper()
	h.restartsUnder(startLoad(h.t, s.addr, s.ask, clients), restarts, change, what, more...)
}

// restartsUnder is changesUnderLoad with a load of one's own.
func (h *supervisor) restartsUnder(l *load, restarts int, change func(i int), what string, more ...string) {
	h.t.Helper()
	l.awaitNewPID(0)
	for i := range restarts {
		change(i)
		before := l.pids()
		h.hup()
		h.await("restart finished", i+2)
		l.awaitNewPID(before)
		h.await("generation ended", i+1)
	}
	l.check(what)
	for _, bad := range append(more, "restart failed", "generation killed", "old generation not gated wholly") {
		if n := h.count(bad); n > 0 {
			h.t.Errorf("%d times %q", n, bad)
		}
	}
}

// TestInheritedListen: workers that listen themselves on what their master has bound get one socket, all of them.
func TestInheritedListen(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		port := freePort(t)
		s := service{name: "inheriting", addr: fmt.Sprintf("127.0.0.1:%d", port), ask: askHTTP}
		s.command = []string{program(t, "/usr/bin/python3", "python3"), "testdata/inheriting.py", strconv.Itoa(port)}
		h := s.run(t, level, "--ready-workers=all", "--min-ready=500ms")
		l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
		for i := range 4 {
			h.hup()
			h.await("generation ended", i+1)
		}
		l.check("workers that listen")
		if n := h.count("preserved socket planted"); n != 8 {
			t.Errorf("%d sockets were planted, want one for each of 8 workers", n)
		}
	})
}
