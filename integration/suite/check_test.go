package suite

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCheckNginx is what --check is for.
func TestCheckNginx(t *testing.T) {
	for _, mode := range []string{"--fork", "--exec"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) { checkNginx(t, level, mode) })
		})
	}
}

func checkNginx(t *testing.T, level, mode string) {
	s := nginx(t)
	conf := s.command[2]
	good, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	h := s.run(t, level, mode, "--check="+strings.Join(append(append([]string{}, s.command...), "-t"), " "))
	restarts(t, h, s, 2)
	h.await("generation ended", 1)
	write(t, conf, string(good)+"\nnonsense;\n")
	old := h.processes()
	h.hup()
	failed := h.await("restart failed", 3)
	if !strings.Contains(failed.Output, "nonsense") || failed.Reason != "the check exited with status 1" {
		t.Errorf("%+v", failed)
	}
	if now := h.processes(); fmt.Sprint(now) != fmt.Sprint(old) {
		t.Errorf("processes %v became %v", old, now)
	}
	if n := h.count("generation started"); n != 2 {
		t.Errorf("%d generations were started", n)
	}
	s.mustAnswer(t)
	write(t, conf, string(good))
	restarts(t, h, s, 3)
}

// TestCheckFails: in every way, and the service goes on.
func TestCheckFails(t *testing.T) {
	for name, c := range map[string]struct{ script, reason, output string }{
		"status":     {"echo to stdout; echo to stderr >&2; exit 3", "the check exited with status 3", "to stdout\nto stderr"},
		"killed":     {"echo before; kill -9 $$", "the check was killed by SIGKILL", "before"},
		"no command": {"/does/not/exist", "the check exited with status 127", "not found"},
		"too slow":   {"echo slow; sleep 1000 & sleep 1000", "the check was killed: it did not end within 1s", "slow"},
		"long":       {`i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; exit 1`, "the check exited with status 1", "line 2999"},
		"no UTF-8":   {`printf 'a\377b'; exit 1`, "the check exited with status 1", "a\ufffdb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := golang(t)
			h := s.run(t, "listeners", "--ready-timeout=1s", "--check="+c.script)
			e := failsToRestart(t, h, s, 2, c.reason)
			if !strings.Contains(e.Output, c.output) || len(e.Output) > 4<<10 {
				t.Errorf("the output has %d bytes: %q", len(e.Output), e.Output)
			}
			h.untilProcesses(1)
		})
	}
}

// untilProcesses waits until the service has n processes: killed ones take a moment to be gone.
func (s *supervisor) untilProcesses(n int) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); len(s.processes()) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("processes %v, want %d", s.processes(), n)
		}
	}
}

// TestCheckSetting: a check runs where and as the service would, but without a filter and a standard input.
func TestCheckSetting(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		env := write(t, filepath.Join(dir, "env"), "COLOR=green\n")
		s := golang(t)
		h := s.run(t, level, "--env-file="+env, "--chdir="+dir,
			`--check=echo "$COLOR $(pwd -P) $(wc -c)"; sed -n "s/^\(Seccomp\|SigIgn\|SigBlk\):/\1/p" /proc/self/status; cut -d " " -f 5 /proc/$$/stat; echo $$; exit 1`)
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		e := failsToRestart(t, h, s, 2, "status 1")
		lines := strings.Split(e.Output, "\n")
		if len(lines) != 6 || lines[0] != "green "+dir+" 0" || lines[4] != lines[5] {
			t.Fatalf("%q", e.Output)
		}
		if lines[1] != "SigBlk\t0000000000000000" || lines[2] != "SigIgn\t0000000000000001" {
			t.Errorf("%q", lines[1:3])
		}
		if seccomp := strings.Replace(lines[3], "\t", ":\t", 1); !bytes.Contains(status, []byte("\n"+seccomp+"\n")) {
			t.Errorf("the check has %q, the tests themselves have not", seccomp)
		}
		write(t, env, "nonsense\n")
		failsToRestart(t, h, s, 2, "line 1")
	})
}

// TestCheckPasses: also where it leaves somebody behind who holds its output open; that one is no part of the service.
func TestCheckPasses(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level, "--check=echo fine; sleep 1000 & exit 0")
		for i := range 3 {
			restarts(t, h, s, i+2)
			h.await("generation ended", i+1)
		}
		if e := h.await("check passed", 0); e.Output != "fine" {
			t.Errorf("%+v", e)
		}
		h.untilProcesses(1)
	})
}

// waitingCheck is a check that says that it runs and ends, with the status in the file, when there is a file. It has
// a child that only somebody else ends.
func waitingCheck(t *testing.T) (flag, said, release string) {
	t.Helper()
	dir := t.TempDir()
	said, release = filepath.Join(dir, "said"), filepath.Join(dir, "release")
	return fmt.Sprintf(`--check=sleep 1000 & echo $$ >>%s; while [ ! -e %s ]; do sleep 0.01; done; exit $(cat %s)`, said, release, release), said, release
}

// awaitLines waits until a file has n lines and returns them.
func awaitLines(t *testing.T, file string, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		b, _ := os.ReadFile(file)
		if lines := strings.Fields(string(b)); len(lines) >= n {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %d lines of %s", n, file)
		}
	}
}

// TestHUPsDuringCheck are one more restart, with a check of its own; meanwhile the service serves.
func TestHUPsDuringCheck(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		flag, said, release := waitingCheck(t)
		h := s.run(t, level, flag)
		l := startLoad(t, s.addr, s.ask, 2)
		h.hup()
		awaitLines(t, said, 1)
		for range 5 {
			h.hup()
		}
		h.await("restart wanted; it waits", 0)
		if h.count("generation started") != 1 {
			t.Error("a generation was started before the check was over")
		}
		write(t, release, "0")
		h.await("restart finished", 3)
		h.await("generation ended", 2)
		if n := len(awaitLines(t, said, 2)); n != 2 || h.count("restart begun") != 2 {
			t.Errorf("%d checks, %d restarts", n, h.count("restart begun"))
		}
		l.check("HUPs during a check")
	})
}

// TestEndDuringCheck: TERM, and the end of the service, kill the check with all its processes.
func TestEndDuringCheck(t *testing.T) {
	for name, end := range map[string]func(h *supervisor, s service, pid int){
		"TERM":         func(h *supervisor, _ service, _ int) { h.signal(syscall.SIGTERM) },
		"service ends": func(_ *supervisor, _ service, pid int) { syscall.Kill(pid, syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := golang(t)
				flag, said, _ := waitingCheck(t)
				h := s.run(t, level, flag)
				pid, err := strconv.Atoi(s.mustAnswer(t).pid)
				if err != nil {
					t.Fatal(err)
				}
				h.hup()
				awaitLines(t, said, 1)
				end(h, s, pid)
				if status := h.exit(); status != 143 {
					t.Errorf("exit status %d, want 143", status)
				}
				h.untilProcesses(0)
				if n := h.count("generation started"); n != 1 {
					t.Errorf("%d generations were started", n)
				}
			})
		})
	}
}

// TestRestartAfterKilledCheck: somebody kills a check that hangs; that restart has failed, and the next one works.
func TestRestartAfterKilledCheck(t *testing.T) {
	s := golang(t)
	flag, said, release := waitingCheck(t)
	h := s.run(t, "listeners", flag)
	h.hup()
	pid, err := strconv.Atoi(awaitLines(t, said, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	h.await("restart failed", 2)
	write(t, release, "0")
	restarts(t, h, s, 2)
}

// TestCheckWithoutShell: in an empty root a check is a program and its arguments.
func TestCheckWithoutShell(t *testing.T) {
	root := emptyRoot(t)
	for check, want := range map[string]struct{ reason, output string }{
		"/service  -nonsense": {"the check exited with status 2", "-nonsense"},
		"/service || true":    {"there is no /bin/sh", ""},
		"/does/not/exist":     {"the check can't be run: cannot run /does/not/exist: not found", ""},
	} {
		s := golang(t)
		h := start(t, []string{"--check=" + check, "/service", "-addr", s.addr}, func(cmd *exec.Cmd) {
			cmd.Path = "/huptime"
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		})
		h.await("generation ready", 1)
		if e := failsToRestart(t, h, s, 2, want.reason); !strings.Contains(e.Output, want.output) {
			t.Errorf("%s: the output is %q", check, e.Output)
		}
	}
}
