package suite

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// TestDeafService: HUPs that are sent to the service's own processes neither kill them nor are heard.
func TestDeafService(t *testing.T) {
	services := map[string]func(t *testing.T) service{
		"nginx": nginx, "node": node, "go": func(t *testing.T) service { return golang(t, "-hup") },
	}
	for name, make := range services {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				h := s.run(t, level)
				before := h.processes()
				for _, pid := range before {
					syscall.Kill(pid, syscall.SIGHUP)
				}
				s.mustAnswer(t) // a handler would have run before the answer of a later request
				if after := h.processes(); fmt.Sprint(after) != fmt.Sprint(before) {
					t.Errorf("processes %v became %v", before, after)
				}
				if h.count("restart begun") > 0 {
					t.Error("a HUP to the service restarted it")
				}
				h.hup()
				h.await("restart finished", 2)
				h.await("generation ended", 1)
				s.mustAnswer(t)
			})
		})
	}
}

// TestKillall: killall -HUP with the service's name restarts it, because huptime bears that name.
func TestKillall(t *testing.T) {
	killall := program(t, "killall")
	id := strconv.Itoa(os.Getpid())
	for _, name := range []string{"ks" + id, "a-service-with-a-long-name-" + id} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := golang(t, "-hup")
				b, err := os.ReadFile(goserver)
				if err != nil {
					t.Fatal(err)
				}
				binary := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(binary, b, 0o755); err != nil {
					t.Fatal(err)
				}
				s.command[0] = binary
				h := s.run(t, level)
				if out, err := exec.Command(killall, "-HUP", name).CombinedOutput(); err != nil {
					t.Fatalf("killall: %v: %s", err, out)
				}
				h.await("restart finished", 2)
				h.await("generation ended", 1)
				s.mustAnswer(t)
			})
		})
	}
}

// TestNameOfWrapped: a wrapper that becomes the service gives huptime the service's name.
func TestNameOfWrapped(t *testing.T) {
	s := golang(t)
	s.command = append([]string{"/bin/sh", "-c", `exec "$0" "$@"`}, s.command...)
	h := s.run(t, "listeners")
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", h.cmd.Process.Pid))
	if err != nil || string(comm) != "goserver\n" {
		t.Errorf("huptime is called %q, %v", comm, err)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t, "-report-signals")
		h := s.run(t, level)
		old := connect(t, s.addr)
		first := mustSay(t, old, "1")
		h.hup()
		h.await("restart finished", 2)
		current := s.mustAnswer(t)
		for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGALRM} {
			h.signal(sig)
			h.awaitOutput(fmt.Sprintf("signal=%d pid=%s", sig, current.pid))
		}
		h.mu.Lock()
		for _, line := range h.output {
			if line == fmt.Sprintf("signal=%d pid=%s", syscall.SIGUSR1, first.pid) {
				t.Error("the old generation got a signal too")
			}
		}
		h.mu.Unlock()
		mustSay(t, old, "1")
		old.conn.Close()
		h.await("generation ended", 1)
		h.signal(syscall.SIGQUIT)
		if status := h.exit(); status != 42 {
			t.Errorf("exit status %d, want 42", status)
		}
	})
}

// TestTermEndsAllGenerations: with one generation that drains and one that serves.
func TestTermEndsAllGenerations(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		eachLevel(t, func(t *testing.T, level string) {
			t.Parallel()
			s := golang(t)
			h := s.run(t, level)
			mustSay(t, connect(t, s.addr), "1")
			h.hup()
			h.await("generation gated", 1)
			h.await("restart finished", 2)
			h.signal(sig)
			if status := h.exit(); status != 128+int(sig) {
				t.Errorf("exit status %d, want %d", status, 128+int(sig))
			}
			h.await("generation ended", 1)
		})
	}
}

func TestExitStatus(t *testing.T) {
	for _, n := range []int{0, 1, 2, 42, 125, 126, 127, 128, 200, 255} {
		h := start(t, []string{"sh", "-c", fmt.Sprintf("exit %d", n)})
		if status := h.exit(); status != n {
			t.Errorf("exit status %d, want %d", status, n)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGUSR1, syscall.SIGABRT} {
		h := start(t, []string{"sh", "-c", fmt.Sprintf("ulimit -c 0; kill -%d $$", sig)})
		if status := h.exit(); status != 128+int(sig) {
			t.Errorf("exit status %d, want %d", status, 128+int(sig))
		}
	}
}
