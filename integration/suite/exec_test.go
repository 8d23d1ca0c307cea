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

// exclusive is a service that must not run twice: it locks its data file.
func exclusive(t *testing.T) service { return golang(t, "-lock", filepath.Join(t.TempDir(), "data")) }

// TestExecTwentyRestarts: 20 restarts in exec mode under 16 clients. They wait, and none of them fails; there are never two generations.
func TestExecTwentyRestarts(t *testing.T) {
	const restarts = 20
	for name, make := range map[string]func(t *testing.T) service{
		"exclusive": exclusive,
		"nginx":     nginx,
		"redis":     redis,
		"thread":    func(t *testing.T) service { return python(t, "thread") },
		"prefork":   func(t *testing.T) service { return python(t, "prefork") },
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				h := s.run(t, level, "--exec")
				l := startLoad(t, s.addr, s.ask, clients)
				l.awaitNewPID(0)
				for i := range restarts {
					before := l.pids()
					h.hup()
					h.await("generation ended", i+1)
					if n := h.alive(); n > 1 {
						t.Errorf("%d generations live at once", n)
					}
					h.await("restart finished", i+2)
					l.awaitNewPID(before)
				}
				l.check(name + " in exec mode at " + level)
				for _, bad := range []string{"restart failed", "service is started again; clients wait meanwhile", "generation killed"} {
					if n := h.count(bad); n > 0 {
						t.Errorf("%d times %q", n, bad)
					}
				}
			})
		})
	}
}

// alive is how many generations have started and not ended, by the log.
func (s *supervisor) alive() int { return s.count("generation started") - s.count("generation ended") }

// TestExecSlowRequest: a request that takes longer than the drain timeout is cut; everybody else is served.
func TestExecSlowRequest(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := exclusive(t)
		h := s.run(t, level, "--exec", "--drain-timeout=300ms")
		slow := connect(t, s.addr)
		fmt.Fprint(slow.conn, "GET /slow?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n")
		quick := connect(t, s.addr)
		if _, err := get(quick, "/slow?ms=100"); err != nil {
			t.Error(err)
		}
		quick.conn.Close()
		l := startLoad(t, s.addr, s.ask, 2)
		l.awaitNewPID(0)
		h.hup()
		if e := h.await("stop signal sent", 1); e.Why != "drain timeout" {
			t.Errorf("%+v", e)
		}
		h.await("restart finished", 2)
		l.awaitNewPID(1)
		l.check("beside the slow request")
	})
}

// TestExecBadNewVersion: the old version is gone, so the start is tried again until it works; clients wait.
func TestExecBadNewVersion(t *testing.T) {
	const again = "service is started again; clients wait meanwhile"
	eachLevel(t, func(t *testing.T, level string) {
		t.Run("repairs itself", func(t *testing.T) {
			t.Parallel()
			s := exclusive(t)
			h := s.run(t, level, "--exec")
			l := startLoad(t, s.addr, s.ask, clients)
			l.awaitNewPID(0)
			write(t, s.config, "exit=3")
			h.hup()
			if e := h.await(again, 0); !strings.HasPrefix(e.Reason, "exited with status 3, ") {
				t.Errorf("%+v", e)
			}
			h.await("generation ended", 3)
			os.Remove(s.config)
			h.await("restart finished", 0)
			l.awaitNewPID(1)
			l.check("while the start was tried again")
		})
		t.Run("HUP brings a fixed one", func(t *testing.T) {
			t.Parallel()
			s := exclusive(t)
			h := s.run(t, level, "--exec")
			l := startLoad(t, s.addr, s.ask, clients)
			l.awaitNewPID(0)
			write(t, s.config, "kill=9")
			h.hup()
			h.until("five tries", func() bool {
				n := 0
				for _, e := range h.events {
					if e.Msg == again {
						n++
					}
				}
				return n >= 5 // the next one is more than a second away
			})
			os.Remove(s.config)
			began := time.Now()
			h.hup()
			h.await("restart finished", 0)
			t.Logf("the restart by SIGHUP took %v", time.Since(began).Round(time.Millisecond))
			l.awaitNewPID(1)
			l.check("while the start was tried again")
		})
		t.Run("is given up", func(t *testing.T) {
			t.Parallel()
			s := exclusive(t)
			h := s.run(t, level, "--exec", "--start-retries=2")
			write(t, s.config, "exit=7")
			h.hup()
			if e := h.await("service given up", 0); !strings.HasPrefix(e.Reason, "exited with status 7, ") {
				t.Errorf("%+v", e)
			}
			if status := h.exit(); status != 7 {
				t.Errorf("exit status %d, want 7", status)
			}
			if n := h.count("generation started"); n != 4 {
				t.Errorf("%d starts, want the first, the restart and two tries", n)
			}
		})
		t.Run("TERM between two tries", func(t *testing.T) {
			t.Parallel()
			s := exclusive(t)
			h := s.run(t, level, "--exec")
			write(t, s.config, "exit=7")
			h.hup()
			h.await(again, 0)
			h.signal(15)
			if status := h.exit(); status != 128+15 {
				t.Errorf("exit status %d, want 143", status)
			}
		})
	})
}

// TestReviveKeepsClients: the service is killed again and again; clients wait for it, and only those that it was serving notice.
func TestReviveKeepsClients(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level, "--revive")
		for i := range 3 {
			h.await("generation ready", i+1)
			h.until("the socket to be kept", func() bool { return h.has("listening socket kept", i+1) })
			leader := h.await("generation started", i+1).PID
			write(t, s.config, "delay=300ms")
			mustKill(t, leader, 9)
			h.await("generation ended", i+1)
			// It is gone, and its successor not there yet: this one waits.
			if r := s.mustAnswer(t); r.pid == fmt.Sprint(leader) {
				t.Error("the dead answers")
			}
		}
		h.hup() // a restart works as ever
		h.await("restart finished", 5)
		s.mustAnswer(t)
	})
}

func TestReviveOnFailure(t *testing.T) {
	for _, c := range []struct {
		flag, behave string
		starts       bool
		status       int
	}{
		{"--revive=on-failure", "exit=0", false, 0},
		{"--revive=on-failure", "exit=1", true, 0},
		{"--revive=always", "exit=0", true, 0},
		{"--revive=never", "exit=1", false, 1},
	} {
		t.Run(strings.ReplaceAll(c.flag+c.behave, "=", " "), func(t *testing.T) {
			t.Parallel()
			s := golang(t)
			write(t, s.config, c.behave)
			h := start(t, append([]string{c.flag}, s.command...))
			if !c.starts {
				if status := h.exit(); status != c.status {
					t.Errorf("exit status %d, want %d", status, c.status)
				}
				return
			}
			h.await("generation ended", 2)
			os.Remove(s.config)
			h.await("generation ready", 0)
			s.mustAnswer(t)
		})
	}
}

// TestReviveLetsGo: a listening socket that the service closes by itself is really closed, also where sockets are kept.
func TestReviveLetsGo(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t, "-close-at-usr1")
		h := s.run(t, level, "--revive")
		h.until("the socket to be kept", func() bool { return h.has("listening socket kept", 1) })
		h.signal(10)
		h.awaitOutput("closed its listening socket")
		h.await("the service has closed a listening socket", 1)
		if alive(s.addr) {
			t.Error("the address accepts connections that nobody serves")
		}
	})
}

func mustKill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("cannot signal %d: %v", pid, err)
	}
}

// has tells whether there was such an event. The caller is in until.
func (s *supervisor) has(msg string, generation int) bool {
	for _, e := range s.events {
		if e.Msg == msg && e.Generation == generation {
			return true
		}
	}
	return false
}
