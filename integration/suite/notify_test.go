package suite

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestReadyNotify: a version is waited for until it says that it is ready.
func TestReadyNotify(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := readying(t)
		write(t, s.config, "notify=1")
		env := write(t, filepath.Join(t.TempDir(), "env"), "NOTIFY_SOCKET=/nowhere\n") // huptime's own is the one that counts
		h := s.run(t, level, "--ready=notify", "--ready-timeout=5s", "--env-file="+env)
		h.saidReady(1)
		l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
		for i := range 2 {
			h.hup()
			h.await("restart finished", i+2)
			h.saidReady(i + 2)
		}
		l.check("notify")
		// Both share a queue: what a version that is given up has accepted is lost.
		write(t, s.config, "notify=600")
		failedRestart(h, 4, "not ready within 5s: it has not said READY=1 (it says: loading)")
		write(t, s.config, "notify=0.1")
		h.hup()
		h.await("restart finished", 5)
		h.saidReady(5)
	})
}

// saidReady checks that a generation that counts as ready has said so before.
func (s *supervisor) saidReady(generation int) {
	s.t.Helper()
	s.await("generation ready", generation)
	said := fmt.Sprintf("pid %d says READY", s.await("generation started", generation).PID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.output, said) {
		s.t.Errorf("generation %d is ready before %q", generation, said)
	}
}

// TestReadyNotifyNobody: without a service manager and without --ready=notify a service is not asked to notify anybody.
func TestReadyNotifyNobody(t *testing.T) {
	s := readying(t)
	write(t, s.config, "notify=600")
	h := s.run(t, "listeners")
	h.awaitOutput(fmt.Sprintf("pid %d has NOTIFY_SOCKET=", h.await("generation started", 1).PID))
	h.hup()
	h.await("restart finished", 2)
	if line := h.awaitOutput("has NOTIFY_SOCKET="); !strings.HasSuffix(line, "=") {
		t.Errorf("it says: %s", line)
	}
}

// manager is a service manager's socket: what it heard, in its order.
type manager struct {
	path string

	mu      sync.Mutex
	heard   []string
	changed chan struct{}
}

func startManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "manager"), changed: make(chan struct{})}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.heard = append(m.heard, strings.Split(strings.TrimSpace(string(b[:n])), "\n")...)
			close(m.changed)
			m.changed = make(chan struct{})
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		conn.Close()
		reading.Wait()
	})
	return m
}

// count tells how often an assignment was heard, and how many there were.
func (m *manager) count(assignment string) (n, all int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.heard {
		if a == assignment {
			n++
		}
	}
	return n, len(m.heard)
}

// await waits until an assignment was heard n times.
func (m *manager) await(h *supervisor, assignment string, n int) {
	h.t.Helper()
	limit := time.After(patience)
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if heard, _ := m.count(assignment); heard >= n {
			return
		}
		select {
		case <-changed:
		case <-limit:
			h.t.Fatalf("the service manager has not heard %s %d times", assignment, n)
		}
	}
}

// manages gives huptime what a service manager does.
func (m *manager) manages(more ...string) option {
	return func(c *exec.Cmd) { c.Env = append(append(c.Env, "NOTIFY_SOCKET="+m.path), more...) }
}

// TestServiceManager: huptime notifies the service manager, and the service notifies huptime.
func TestServiceManager(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		m := startManager(t)
		s := readying(t)
		write(t, s.config, "notify=1")
		flags := []string{"--track=" + level, "--ready-timeout=5s", "--"}
		h := start(t, append(flags, s.command...), m.manages("WATCHDOG_USEC=400000"))
		h.awaitOutput("has NOTIFY_SOCKET=")
		if n, all := m.count("READY=1"); n > 0 && h.count("generation ready") == 0 {
			t.Errorf("huptime is ready before the service: %d of %d messages", n, all)
		}
		h.await("generation ready", 1)
		m.await(h, "READY=1", 1)
		h.awaitOutput("says READY")
		m.await(h, "WATCHDOG=1", 5)
		for i := range 2 { // generation 1 has said that it is ready: so the next ones are waited for
			h.hup()
			h.await("restart finished", i+2)
			h.saidReady(i + 2)
		}
		write(t, s.config, "notify=600")
		failedRestart(h, 4, "it has not said READY=1")
		pinged, _ := m.count("WATCHDOG=1")
		m.await(h, "WATCHDOG=1", pinged+2)
		ready, all := m.count("READY=1")
		if pinged, _ := m.count("WATCHDOG=1"); ready != 1 || all > ready+pinged+1 {
			t.Errorf("the service manager has heard READY=1 %d times, the watchdog %d times, and %d in all", ready, pinged, all)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		given := 0
		for _, line := range h.output {
			switch _, value, _ := strings.Cut(line, "="); {
			case strings.Contains(line, "has NOTIFY_SOCKET="):
				given++
				if value == "" || value == m.path {
					t.Errorf("the service has %q", line)
				}
			case strings.Contains(line, "has WATCHDOG_USEC=") && value != "":
				t.Errorf("the service has %q", line)
			}
		}
		if given != 4 {
			t.Errorf("%d generations were given a socket, want 4", given)
		}
	})
}

// TestServiceManagerOnly: where generation 1 never said that it is ready, the others need not.
func TestServiceManagerOnly(t *testing.T) {
	m := startManager(t)
	s := readying(t)
	h := start(t, append([]string{"--"}, s.command...), m.manages())
	h.await("generation ready", 1)
	m.await(h, "READY=1", 1)
	h.hup()
	h.await("restart finished", 2)
	if n, _ := m.count("WATCHDOG=1"); n > 0 {
		t.Errorf("%d pings that nobody asked for", n)
	}
}

// TestServiceManagerGone: a service manager that is gone disturbs nobody.
func TestServiceManagerGone(t *testing.T) {
	s := readying(t)
	path := filepath.Join(t.TempDir(), "nobody")
	h := start(t, append([]string{"--"}, s.command...), func(c *exec.Cmd) {
		c.Env = append(c.Env, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=100000", fmt.Sprintf("WATCHDOG_PID=%d", os.Getpid()))
	})
	h.await("generation ready", 1)
	h.await("cannot notify the service manager", 0)
	h.hup()
	h.await("restart finished", 2)
	if n := h.count("cannot notify the service manager"); n != 1 {
		t.Errorf("%d warnings: the watchdog's was another process's", n)
	}
}
