package suite

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// background is a huptime that went into the background.
type background struct {
	*supervisor
	pid   int
	pidfd int
}

// inBackground runs huptime --daemon and waits until its foreground process has exited with 0.
func inBackground(t *testing.T, args []string, options ...option) *background {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pid")
	b := &background{supervisor: start(t, append([]string{"--daemon", "--pid-file=" + file}, args...), options...)}
	if status := b.exit(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.pid, err = strconv.Atoi(strings.TrimSuffix(string(text), "\n")); err != nil {
		t.Fatal(err)
	}
	if b.pidfd, err = unix.PidfdOpen(b.pid, 0); err != nil {
		t.Fatalf("the pid file names nobody: %v", err)
	}
	t.Cleanup(func() {
		unix.PidfdSendSignal(b.pidfd, unix.SIGTERM, nil, 0)
		b.ends()
		unix.Close(b.pidfd)
		if _, err := os.Stat(file); err == nil {
			t.Error("the pid file is still there")
		}
	})
	return b
}

// ends waits for the end of the background process.
func (b *background) ends() {
	b.t.Helper()
	polled := []unix.PollFd{{Fd: int32(b.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polled, int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			b.t.Errorf("huptime in the background does not end: %v", err)
			syscall.Kill(b.pid, syscall.SIGKILL)
		}
		return
	}
}

func (b *background) send(sig syscall.Signal) {
	b.t.Helper()
	if err := unix.PidfdSendSignal(b.pidfd, sig, nil, 0); err != nil {
		b.t.Fatal(err)
	}
}

func TestDaemon(t *testing.T) {
	services := map[string]func(t *testing.T) service{"go": func(t *testing.T) service { return golang(t) }, "nginx": nginx}
	for name, make := range services {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				b := inBackground(t, append([]string{"--track=" + level}, s.command...))
				s.mustAnswer(t) // at once: it is ready
				l := startLoad(t, s.addr, s.ask, 2)
				for i := range 3 {
					b.send(unix.SIGHUP)
					b.await("restart finished", i+2)
					b.await("generation ended", i+1)
				}
				l.end()
				l.check("in the background")
				b.send(unix.SIGTERM)
				b.ends()
				if alive(s.addr) {
					t.Error("the service serves on")
				}
			})
		})
	}
}

// TestDaemonIsOne: a session of its own without a terminal, nothing of ours in the service, everything else as it was.
func TestDaemonIsOne(t *testing.T) {
	inherited, err := os.Create(t.TempDir() + "/inherited")
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	// Not in $(...): that has a pipe in the shell that is looked at, and both of its ends until the shell goes on.
	s := golang(t).saying(`cd /proc/$$/fd && echo "fds" * .; cd "$OLDPWD"; echo "dir $(pwd -P)"; echo "stdin $(readlink /proc/$$/fd/0)"; echo "limit $(ulimit -Sn)"; env | sed "s/^/env /"; true`)
	bare := exec.Command("sh", "-c", `exec 2>&1; cd /proc/$$/fd && echo *`)
	bare.ExtraFiles = []*os.File{inherited, nil, inherited}
	fds, err := bare.Output()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"A=1", "B=two words", "PATH=" + os.Getenv("PATH")}
	b := inBackground(t, s.command, func(cmd *exec.Cmd) {
		cmd.ExtraFiles = []*os.File{inherited, nil, inherited}
		cmd.Env = append(env, cmd.Env[len(cmd.Env)-1]) // the mark
	})
	if sid, err := unix.Getsid(b.pid); err != nil || sid != b.pid {
		t.Errorf("session %d, %v; want %d", sid, err, b.pid)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.pid))
	if _, after, _ := strings.Cut(string(stat), ") "); err != nil || strings.Fields(after)[4] != "0" {
		t.Errorf("it has a terminal: %s, %v", stat, err)
	}
	dir, err := filepath.EvalSymlinks(".")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	limit, err := exec.Command("sh", "-c", "ulimit -Sn").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fds " + strings.TrimSpace(string(fds)) + " .", "dir " + dir, "stdin /dev/null", "limit " + strings.TrimSpace(string(limit))} {
		b.awaitOutput(want)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.output {
		v, ok := strings.CutPrefix(line, "env ")
		if name, _, _ := strings.Cut(v, "="); ok && !slices.Contains(env, v) &&
			!slices.Contains([]string{"SUITE_MARK", "PWD", "OLDPWD", "SHLVL", "_"}, name) { // the last ones are the shell's
			t.Errorf("the service has %s in its environment", v)
		}
	}
}

// TestDaemonWaits: the foreground process is there until the service is ready, not longer.
func TestDaemonWaits(t *testing.T) {
	s := golang(t)
	release := filepath.Join(t.TempDir(), "release")
	s = s.saying(fmt.Sprintf(`while [ ! -e %s ]; do sleep 0.01; done; true`, release))
	h := start(t, append([]string{"--daemon", "--pid-file=" + release + ".pid"}, s.command...))
	h.await("generation started", 1)
	select {
	case <-h.exited:
		t.Error("the foreground process did not wait")
	default:
	}
	pid, err := os.ReadFile(release + ".pid")
	if err != nil {
		t.Error("the pid file is not there while the service starts")
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(pid)))
	b := &background{supervisor: h, pid: n}
	if b.pidfd, err = unix.PidfdOpen(n, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(b.pidfd)
	write(t, release, "")
	if status := h.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	s.mustAnswer(t)
	b.send(unix.SIGTERM)
	b.ends()
}

// TestDaemonFails: what an init script gets to see when the service does not start.
func TestDaemonFails(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name    string
		command []string
		status  int
		lines   int
		says    string
	}{
		{"exits", []string{"sh", "-c", "exit 3"}, 3, 0, ""},
		{"is killed", []string{"sh", "-c", "kill -9 $$"}, 137, 0, ""},
		{"exits with 0", []string{"true"}, 125, 1, "status 0 before it was ready"},
		{"is not found", []string{"/does/not/exist"}, 127, 1, "not found"},
		{"can't be executed", []string{dir}, 126, 1, "not executable"},
		{"has no directory", []string{"--chdir=/does/not/exist", "true"}, 125, 1, "/does/not/exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			cmd := exec.Command(huptime, append([]string{"--daemon", "--pid-file=" + file}, c.command...)...)
			status, stderr := runToEnd(t, cmd)
			var lines []string
			for line := range strings.Lines(stderr) {
				if strings.HasPrefix(line, "huptime: ") {
					lines = append(lines, line)
				}
			}
			if status != c.status || len(lines) != c.lines || c.lines == 1 && !one(lines[0], c.says) {
				t.Errorf("exit status %d, %q", status, stderr)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("the pid file is still there")
			}
		})
	}
}

// TestDaemonEndedWhileStarting: signals to the foreground process are for the one in the background.
func TestDaemonEndedWhileStarting(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			h := start(t, []string{"--daemon", "sleep", "1000"})
			h.await("generation started", 1)
			h.signal(sig)
			if status := h.exit(); status != 128+int(sig) {
				t.Errorf("exit status %d, want %d", status, 128+int(sig))
			}
			h.untilProcesses(0)
		})
	}
}

// TestDaemonOutlivesItsForeground: killed, it leaves a service that nobody waits for, which works.
func TestDaemonOutlivesItsForeground(t *testing.T) {
	s := golang(t)
	file := write(t, s.config, "delay=300ms") + ".pid"
	h := start(t, append([]string{"--daemon", "--pid-file=" + file}, s.command...))
	h.await("generation started", 1)
	h.signal(syscall.SIGKILL)
	h.exit()
	h.await("generation ready", 1)
	s.mustAnswer(t)
	pid, err := strconv.Atoi(awaitLines(t, file, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	h.untilProcesses(0)
}

// TestPidFile: of a huptime in the foreground: it is there in time, tells others off, and goes with its owner.
func TestPidFile(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		dir := t.TempDir()
		file := filepath.Join(dir, "pid")
		s := golang(t).saying("echo pid file: $(cat " + file + ")")
		h := s.run(t, level, "--pid-file="+file)
		pid := h.cmd.Process.Pid
		h.awaitOutput(fmt.Sprintf("pid file: %d", pid))
		if status, stderr := runToEnd(t, exec.Command(huptime, "--pid-file="+file, "true")); status != 125 ||
			!one(stderr, file, fmt.Sprintf("live huptime owns it (PID %d)", pid)) {
			t.Errorf("a second one: exit status %d, %q", status, stderr)
		}
		restarts(t, h, s, 2)
		h.await("generation ended", 1)
		if lines := awaitLines(t, file, 1); lines[0] != strconv.Itoa(pid) {
			t.Errorf("after a restart it has %q", lines)
		}
		h.signal(syscall.SIGTERM)
		if status := h.exit(); status != 143 {
			t.Errorf("exit status %d", status)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// TestStalePidFile: huptime was killed; its successor takes the file over, whoever has that PID by now.
func TestStalePidFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	s := golang(t)
	h := s.run(t, "listeners", "--pid-file="+file)
	h.signal(syscall.SIGKILL)
	h.exit()
	h.untilProcesses(0) // SIGTERM from the kernel
	awaitLines(t, file, 1)
	write(t, file, fmt.Sprintf("%d\n", os.Getpid())) // used again
	h = s.run(t, "listeners", "--pid-file="+file)
	if lines := awaitLines(t, file, 1); lines[0] != strconv.Itoa(h.cmd.Process.Pid) {
		t.Errorf("it has %q", lines)
	}
	s.mustAnswer(t)
}

// TestPidFileWithoutService: it goes also when nothing could be started.
func TestPidFileWithoutService(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pid")
	for status, command := range map[int]string{127: "/does/not/exist", 126: dir, 0: "true", 1: "false"} {
		if got, stderr := runToEnd(t, exec.Command(huptime, "--pid-file="+file, command)); got != status {
			t.Errorf("%s: exit status %d, %q", command, got, stderr)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left behind: %v", command, left)
		}
	}
}
