package suite

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asking is the flag for a probe that runs asks.py, and the file with its answers.
func asking(t *testing.T, s service, way string) (flag, file string) {
	t.Helper()
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "answers")
	if arch, ok := strings.CutPrefix(way, "go "); ok {
		binary := filepath.Join(t.TempDir(), "goasks")
		if err := goBuild(binary, "./goasks", []string{"CGO_ENABLED=0", "GOARCH=" + arch}); err != nil {
			t.Fatal(err)
		}
		if arch == "386" {
			runs32(t, binary)
		}
		return fmt.Sprintf("--ready=exec:%s %s %s", binary, s.addr, file), file
	}
	python := program(t, "/usr/bin/python3", "python3")
	return "--ready=exec:" + strings.Join([]string{python, "testdata/asks.py", way, host, port, file}, " "), file
}

// answered checks that each answer to a probe came from the generation that was asked about, and that it was refused
// first.
func (s *supervisor) answered(file string, generations int) {
	s.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	refused := make(map[int]int)
	for line := range strings.Lines(string(b)) {
		var generation, status, pid int
		if n, _ := fmt.Sscan(line, &generation, &status, &pid); n != 3 {
			s.t.Fatalf("an answer is %q", line)
		}
		if want := s.await("generation started", generation).PID; pid != want {
			s.t.Errorf("generation %d was asked about, process %d, and process %d has answered %d",
				generation, want, pid, status)
		}
		if status == 503 {
			refused[generation]++
		}
	}
	for generation := 2; generation <= generations; generation++ {
		if refused[generation] == 0 {
			s.t.Errorf("generation %d has never said that it is not ready", generation)
		}
	}
	s.t.Logf("%d answers", strings.Count(string(b), "\n"))
}

// TestProbeCommand: on the stage a command reaches the new version, which refuses it for a second, and nobody else;
// clients reach the old one.
func TestProbeCommand(t *testing.T) {
	for _, way := range []string{"blocking", "epoll", "poll", "twice", "loop", "blocking denied", "poll denied",
		"go " + runtime.GOARCH, "go 386"} {
		t.Run(way, func(t *testing.T) {
			if way == "go 386" && runtime.GOARCH != "amd64" {
				t.Skip("unsupported here: i386 programs run on amd64 kernels")
			}
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := readying(t)
				way, deny := strings.CutSuffix(way, " denied")
				flag, file := asking(t, s, way)
				var options []option
				if deny {
					options = append(options, denied("pidfd_getfd", unix.EPERM))
				}
				write(t, s.config, "health=1")
				flags := []string{"--track=" + level, "--stage", flag, "--ready-interval=2s", "--"}
				h := start(t, append(flags, s.command...), options...)
				h.await("generation ready", 1)
				l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
				l.awaitNewPID(0)
				h.restartsTwice(l)
				l.check(way)
				h.answered(file, 3)
			})
		})
	}
}

// restartsTwice waits each time until the new version answers clients.
func (h *supervisor) restartsTwice(l *load) {
	h.t.Helper()
	for i := range 2 {
		before := l.pids()
		h.hup()
		h.await("generation ready", i+2)
		l.awaitNewPID(before)
		h.await("restart finished", i+2)
	}
}

// TestProbeCommandExec: in exec mode clients wait until the command has passed, which reaches the new version. One
// that can't be led there, as it binds its sockets itself or has another process connect, waits among the clients:
// they are let in, and it passes.
func TestProbeCommandExec(t *testing.T) {
	for _, way := range []string{"blocking", "epoll denied", "bound", "helper", "opaque"} {
		t.Run(way, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := readying(t)
				way, deny := strings.CutSuffix(way, " denied")
				asks := s
				if way == "helper" {
					asks.addr = passOn(t, s.addr)
				}
				flag, file := asking(t, asks, strings.NewReplacer("helper", "blocking", "opaque", "blocking").Replace(way))
				var options []option
				if way == "opaque" {
					flag = opaqueCommand(t, flag, file)
					options = append(options, incapable(t, unix.CAP_SYS_PTRACE))
				}
				if deny {
					options = append(options, denied("pidfd_getfd", unix.EPERM))
				}
				// One attempt of those that wait ends with the interval.
				flags := []string{"--track=" + level, "--exec", flag, "--ready-interval=2s", "--"}
				h := start(t, append(flags, s.command...), options...)
				h.await("generation ready", 1)
				write(t, s.config, "health=1")
				l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
				l.awaitNewPID(0)
				h.restartsTwice(l)
				l.check(way)
				led := way == "blocking"
				if led {
					h.answered(file, 3)
				}
				n := h.count("a probe's command waits among the clients: they are let in before it has passed")
				if led != (n == 0) {
					t.Errorf("%d times it says that clients are let in", n)
				}
			})
		})
	}
}

// opaqueCommand makes another user's of the command of a probe. Without CAP_SYS_PTRACE its processes may not be
// looked into.
func opaqueCommand(t *testing.T, flag, file string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/asks.py")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	script := write(t, filepath.Join(dir, "asks.py"), string(text))
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.WriteFile(file, nil, 0o666),
		os.Chmod(file, 0o666), os.Chmod(script, 0o644)); err != nil {
		t.Fatal(err)
	}
	setpriv := program(t, "/usr/bin/setpriv", "setpriv") + " --reuid=65534 --regid=65534 --clear-groups "
	return strings.NewReplacer("testdata/asks.py", script, "exec:", "exec:"+setpriv).Replace(flag)
}

// passOn is an address at which each connection is passed on to another.
func passOn(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connections
				defer from.Close()
				c, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer c.Close()
				go func() { // ends when the client has sent all
					_, _ = io.Copy(c, from)
					c.Close()
				}()
				_, _ = io.Copy(from, c)
			}()
		}
	}()
	return l.Addr().String()
}

// TestProbeCommandOutlived: what a command leaves behind can connect as long as it lives: somebody answers its calls.
func TestProbeCommandOutlived(t *testing.T) {
	s := readying(t)
	dir := t.TempDir()
	apart, came := filepath.Join(dir, "apart"), filepath.Join(dir, "came")
	if err := errors.Join(unix.Mkfifo(apart, 0o600), unix.Mkfifo(came, 0o600)); err != nil {
		t.Fatal(err)
	}
	python := program(t, "/usr/bin/python3", "python3")
	ask := strings.Join([]string{python, "testdata/asks.py", "blocking", strings.Replace(s.addr, ":", " ", 1),
		filepath.Join(dir, "answers")}, " ")
	// What is in the command's group is killed with it, so this has a session of its own; and it waits until the test
	// opens the pipe, of which it then has one end as long as it lives.
	left := fmt.Sprintf("echo >%s; exec 3>%s; %s; echo status $? >&3", apart, came, ask)
	s.run(t, "listeners", "--stage", "--ready-interval=10s",
		"--ready=exec:setsid sh -c '"+left+"' >/dev/null 2>&1 & read x <"+apart)
	if b, err := os.ReadFile(came); err != nil || string(b) != "status 0\n" {
		t.Errorf("what was left behind says %q: %v", b, err)
	}
}

// TestProbeCommandHanging: a command is killed at its limit, again and again, and leaves nothing behind in huptime.
func TestProbeCommandHanging(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := readying(t)
		flag, _ := asking(t, s, "blocking")
		h := s.run(t, level, "--stage", flag, "--ready-timeout=5s", "--ready-interval=500ms")
		old := s.mustAnswer(t)
		write(t, s.config, "hang")
		open := func() int {
			list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		var before int
		for i := range 2 {
			failedRestart(h, i+2, "not ready within 5s: exec:", "500ms")
			h.await("generation ended", i+2)
			if i == 0 {
				before = open()
				continue
			}
			for limit := time.Now().Add(patience); open() > before; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatalf("%d descriptors are open after the second failed restart, %d were after the first", open(), before)
				}
			}
		}
		write(t, s.config, "")
		if r := s.mustAnswer(t); r.pid != old.pid {
			t.Errorf("process %s answers, want %s", r.pid, old.pid)
		}
		h.hup()
		h.await("restart finished", 4)
		h.await("generation ended", 1)
	})
}
