package suite

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sandboxed is a service that restricts itself by a seccomp filter once it listens.
func sandboxed(t *testing.T, how, way, end string) service {
	t.Helper()
	port := freePort(t)
	version := write(t, filepath.Join(t.TempDir(), "version"), "1")
	return service{
		name:    "sandboxed",
		command: []string{compiled(t, "sandboxed"), how, strconv.Itoa(port), version, way, end},
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
		version: version,
	}
}

// askedOnce are clients who make one request on a connection.
func askedOnce(t *testing.T, s service) *load {
	t.Helper()
	return startClients(t, s.addr, s.ask, slices.Repeat([]int{1}, clients)...)
}

// notBySIGSYS checks that no generation was killed for a call that it did not make itself.
func (h *supervisor) notBySIGSYS() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if strings.Contains(e.Status, "SIGSYS") {
			h.t.Errorf("%s of generation %d: %s", e.Msg, e.Generation, e.Status)
		}
	}
}

// TestFaultD3Sandbox: a service that has a seccomp filter of its own is not made to run calls, which would kill it or fail. At connections it
// is gated by its own accepts; at listeners it is retired by its stop signal, and the log says so.
func TestFaultD3Sandbox(t *testing.T) {
	const restarts = 5
	for _, how := range []string{"kill", "errno"} {
		for _, way := range []string{"accept", "epoll"} {
			t.Run(how+"/"+way, func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					end := "naive"
					if level == "listeners" {
						end = "graceful" // what it has begun only it can finish
					}
					s := sandboxed(t, how, way, end)
					h := s.run(t, level)
					h.restartsUnder(askedOnce(t, s), restarts, func(int) {}, how+" "+way+" at "+level)
					h.notBySIGSYS()
					if level == "listeners" {
						e := h.await("a process can't be made to stop accepting: it is retired by its stop signal alone", 1)
						if !strings.Contains(e.Error, "seccomp filter of its own") || e.PID == 0 {
							t.Errorf("the log says %+v", e)
						}
						return
					}
					h.await("a process has a seccomp filter of its own: it is gated by what it does itself, without remote calls", 1)
					if n := h.count("generation drained"); n != restarts {
						t.Errorf("%d of %d generations were drained", n, restarts)
					}
				})
			})
		}
	}
}

// TestFaultD3SandboxAuto: where the level is huptime's choice, a service that turns out to have a filter of its own is watched at connections from
// its second generation on. Then nothing is lost even where it dies of its stop signal.
func TestFaultD3SandboxAuto(t *testing.T) {
	s := sandboxed(t, "kill", "accept", "naive")
	h := s.run(t, "auto")
	if e := h.await("level chosen", 0); e.Track != "listeners" {
		t.Skipf("unsupported here: the level is %s", e.Track)
	}
	h.hup()
	h.await("restart finished", 2)
	h.await("generation ended", 1)
	l := askedOnce(t, s)
	for i := range 5 {
		before := l.pids()
		h.hup()
		h.await("restart finished", i+3)
		l.awaitNewPID(before)
		h.await("generation ended", i+2)
	}
	l.check("sandboxed service at auto")
	h.notBySIGSYS()
	if n := h.count("generation drained"); n != 5 {
		t.Errorf("%d generations were drained, want 5", n)
	}
	if n := h.count("level chosen"); n != 2 {
		t.Errorf("the level was chosen %d times", n)
	}
}

// TestFaultD3UnderProfile: filters that huptime itself runs under, in a container, are not taken for the service's.
func TestFaultD3UnderProfile(t *testing.T) {
	s := waits(t, "accept", 0)
	h := start(t, append([]string{"--track=listeners"}, s.command...), denied("pidfd_getfd", 1))
	h.await("generation ready", 1)
	h.restartsUnderLoad(s, 3, "under a profile", "a process can't be made to stop accepting: it is retired by its stop signal alone")
	if n := h.count("generation drained"); n != 3 {
		t.Errorf("%d of 3 generations were drained", n)
	}
}
