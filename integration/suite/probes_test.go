package suite

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// readying is a service that says in several ways when it is ready: testdata/ready.py. Its config has the words.
func readying(t *testing.T) service {
	t.Helper()
	port := freePort(t)
	words := filepath.Join(t.TempDir(), "words")
	return service{
		name:    "ready",
		command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/ready.py", strconv.Itoa(port), words},
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
		config:  words,
	}
}

// failedRestart sends a HUP, waits for the failed restart of that generation and checks what its reason says.
func failedRestart(h *supervisor, generation int, says ...string) {
	h.t.Helper()
	h.hup()
	reason := h.await("restart failed", generation).Reason
	for _, words := range says {
		if !strings.Contains(reason, words) {
			h.t.Errorf("the reason is %q, want %q", reason, words)
		}
	}
}

// TestReadyProbes: versions that answer probes late take over without a failed request.
func TestReadyProbes(t *testing.T) {
	for _, c := range []struct{ name, probe, words string }{
		{"tcp", "tcp://ADDR", ""},
		{"http", "http://ADDR/health", "health=1.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := readying(t)
				h := s.run(t, level, "--ready="+strings.Replace(c.probe, "ADDR", s.addr, 1))
				write(t, s.config, c.words)
				l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
				for i := range 3 {
					h.hup()
					h.await("restart finished", i+2)
				}
				l.check(c.name)
			})
		})
	}
}

// TestReadyProbeFirst: generation 1 is asked too, and nobody else could answer for it.
func TestReadyProbeFirst(t *testing.T) {
	s := readying(t)
	write(t, s.config, "health=1")
	s.run(t, "listeners", "--ready=http://"+s.addr+"/health")
	s.ask = func(c *client) (reply, error) { return get(c, "/health") }
	if _, err := s.once(); err != nil {
		t.Errorf("it is ready, and /health says: %v", err)
	}
}

// TestReadyExec: the command knows whom it asks, and all probes must pass.
func TestReadyExec(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := readying(t)
		file := filepath.Join(t.TempDir(), "asked")
		h := s.run(t, level, "--ready-timeout=5s", "--ready=tcp://"+s.addr,
			`--ready=exec:echo "$HUPTIME_GENERATION $HUPTIME_PID." >>`+file+`; echo not generation three >&2;`+
				`[ $HUPTIME_GENERATION != 3 ]`)
		l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
		h.hup()
		h.await("restart finished", 2)
		l.check("exec")
		failedRestart(h, 3, "status 1", "not generation three")
		h.hup()
		h.await("restart finished", 4)
		asked, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for generation := range 4 {
			want := fmt.Sprintf("%d %d.", generation+1, h.await("generation started", generation+1).PID)
			if n := strings.Count("\n"+string(asked), "\n"+want+"\n"); n == 0 || generation == 2 && n < 2 {
				t.Errorf("the command was run %d times with %q; in all with\n%s", n, want, asked)
			}
		}
	})
}

// TestReadyHanging: an attempt ends with its interval, and the next follows.
func TestReadyHanging(t *testing.T) {
	t.Run("exec", func(t *testing.T) {
		t.Parallel()
		s := readying(t)
		file := filepath.Join(t.TempDir(), "tries")
		h := s.run(t, "listeners", "--ready-timeout=4s", "--ready-interval=500ms",
			`--ready=exec:[ $HUPTIME_GENERATION = 1 ] && exit 0; echo try >>`+file+`; sleep 60`)
		failedRestart(h, 2, "not ready within 4s: exec:", "500ms")
		if tries, _ := os.ReadFile(file); strings.Count(string(tries), "\n") < 2 {
			t.Errorf("the command was tried less than twice: %q", tries)
		}
		s.mustAnswer(t)
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		s := readying(t)
		h := s.run(t, "listeners", "--ready-timeout=4s", "--ready-interval=500ms", "--ready=http://"+s.addr+"/health")
		old := s.mustAnswer(t)
		write(t, s.config, "hang")
		failedRestart(h, 2, "not ready within 4s: http://", "500ms")
		if r := s.mustAnswer(t); r.pid != old.pid {
			t.Errorf("process %s answers, want %s", r.pid, old.pid)
		}
	})
}

// TestReadyRefused: what failed last is in the reason, and in the warning of a first start.
func TestReadyRefused(t *testing.T) {
	s := readying(t)
	probe := fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))
	h := s.run(t, "listeners", "--ready-timeout=2s", "--ready="+probe)
	warned := h.await("generation 1 is not seen to wait for clients yet; it counts as ready", 0)
	if !strings.Contains(warned.Why, probe) {
		t.Errorf("it says %q", warned.Why)
	}
	failedRestart(h, 2, probe, "does not listen there")
}

// TestBadReady: bad input is one line, before anything starts.
func TestBadReady(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "started")
	for _, c := range []struct{ flags, says string }{
		{"--ready=ftp://127.0.0.1:80", "unknown probe"},
		{"--ready=", "unknown probe"},
		{"--ready=http://127.0.0.1/health", "no port"},
		{"--ready=tcp://127.0.0.1", "no port"},
		{"--ready=tcp://127.0.0.1:0", "port"},
		{"--ready=tcp://127.0.0.1:80000", "port"},
		{"--ready=http://:80/", "no host"},
		{"--ready=exec:", "no command"},
		{"--ready=tcp://192.0.2.1:80", "no address of this machine"},
		{"--ready=http://www.example.com:80/", "127.0.0.1"},
		{"--ready=wait --ready=wait", "twice"},
		{"--ready=tcp://127.0.0.1:80 --ready=tcp://127.0.0.1:80", "twice"},
		{"--ready-interval=0", "--ready-interval"},
		{"--ready-interval=-1s", "--ready-interval"},
		{"--ready-status=20", "--ready-status"},
		{"--ready-workers=0", "--ready-workers"},
		{"--min-ready=-1s", "--min-ready"},
	} {
		status, stderr := runToEnd(t, exec.Command(huptime, append(strings.Fields(c.flags), "touch", mark)...))
		if status != 125 || !one(stderr, c.says) {
			t.Errorf("%s: exit status %d, %q; want one line with %q", c.flags, status, stderr, c.says)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the service ran")
	}
}

// TestFailedClosing: a version that binds, and closes again before it ends, has not "not bound".
func TestFailedClosing(t *testing.T) {
	s := readying(t)
	h := s.run(t, "listeners")
	write(t, s.config, "closes")
	failedRestart(h, 2, "exited with status 3", "it has closed tcp://"+s.addr+", which its predecessor serves")
}
