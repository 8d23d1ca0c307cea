package suite

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fullPipe is a pipe into which nothing more can be written.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	fd := int(w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := unix.Write(fd, []byte(strings.Repeat("x", 99)+"\n")); err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	// What does not fit whole is not written at all above (PIPE_BUF in pipe(7)); huptime's lines are to wait.
	for _, err := unix.Write(fd, []byte("\n")); err == nil; _, err = unix.Write(fd, []byte("\n")) {
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return r, w
}

// TestFaultD2BlockedLog: standard error is a pipe that nobody reads. HUP and TERM are heard, clients are served, and
// the end comes.
func TestFaultD2BlockedLog(t *testing.T) {
	for _, flags := range [][]string{
		nil, {"--trace"}, {"--exec"}, {"--multi=2", "--log-format=json"}, {"--trace", "--revive"},
	} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := python(t, "thread")
				read, write := fullPipe(t)
				cmd := exec.Command(huptime, append(append([]string{"--track=" + level}, flags...), s.command...)...)
				cmd.Stderr = write
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				write.Close()
				exited := make(chan struct{})
				go func() { cmd.Wait(); close(exited) }()
				defer func() {
					cmd.Process.Kill()
					<-exited
				}()
				s.awaitAlive(t)
				l := startLoad(t, s.addr, s.ask, 2)
				for range 3 {
					before := l.pids()
					cmd.Process.Signal(syscall.SIGHUP)
					l.awaitNewPID(max(before, 1))
				}
				l.check("restarts")
				cmd.Process.Signal(syscall.SIGTERM)
				began := time.Now()
				select {
				case <-exited:
				case <-time.After(patience):
					t.Fatal("TERM is not heard")
				}
				t.Logf("TERM to end: %v", time.Since(began).Round(time.Millisecond))
				if text, err := io.ReadAll(read); err != nil || strings.Contains(string(text), "panic") {
					t.Errorf("%q, %v", text, err)
				}
			})
		})
	}
}

// awaitAlive waits until the service answers at all.
func (s service) awaitAlive(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(patience); !alive(s.addr); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the service does not answer")
		}
	}
}

// TestFaultD2LastLines: what is in the log's queue at the end is still written to whoever reads by then, and the log
// says what it lacks.
func TestFaultD2LastLines(t *testing.T) {
	s := python(t, "thread")
	read, write := fullPipe(t)
	cmd := exec.Command(huptime, append([]string{"--trace", "--track=connections"}, s.command...)...)
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	defer cmd.Process.Kill()
	s.awaitAlive(t)
	// Each accept is a line: more than fits.
	l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
	for limit := time.Now().Add(patience); l.answered() < 6000 && time.Now().Before(limit); {
		time.Sleep(10 * time.Millisecond)
	}
	l.check("traced requests")
	cmd.Process.Signal(syscall.SIGTERM)
	lines, dropped, last := 0, 0, ""
	for in := bufio.NewScanner(read); in.Scan(); {
		line := in.Text()
		if !strings.HasPrefix(line, "time=") {
			continue
		}
		lines, last = lines+1, line
		if _, n, ok := strings.Cut(line, "lines of the log were dropped: standard error took no more\" lines="); ok {
			more, err := strconv.Atoi(n)
			if err != nil {
				t.Error(err)
			}
			dropped += more
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Log("exit status 0")
	}
	t.Logf("%d lines, and %d dropped", lines, dropped)
	if lines == 0 || dropped == 0 {
		t.Errorf("%d lines and %d dropped", lines, dropped)
	}
	if !strings.Contains(last, "ended") && !strings.Contains(last, "dropped") {
		t.Errorf("the last line is %q", last)
	}
}

// answered tells how many requests were answered so far.
func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// TestFaultD2Flood: calls that fail 20,000 times are one line of the log at most, and none where the kernel's answer
// says all.
func TestFaultD2Flood(t *testing.T) {
	const calls, lines = 20000, "cannot look at a call"
	for kind, most := range map[string]int{"closed": 0, "file": 0, "pointer": 2} { // 2: one a generation
		t.Run(kind, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := python(t, "thread")
				port := strconv.Itoa(portOf(t, s.addr))
				s.command = []string{s.command[0], "testdata/flood.py", port, s.version, kind, strconv.Itoa(calls)}
				h := s.run(t, level)
				h.awaitOutput("flooded")
				l := startLoad(t, s.addr, s.ask, 1)
				h.hup()
				h.await("restart finished", 2)
				h.until("the second flood", func() bool {
					return strings.Count(strings.Join(h.output, "\n"), "flooded") == 2
				})
				l.check("restart")
				n, size := 0, 0
				h.mu.Lock()
				for _, e := range h.events {
					size++
					if strings.HasPrefix(e.Msg, lines) {
						n++
					}
				}
				h.mu.Unlock()
				t.Logf("%d lines of %d", n, size)
				if n > most {
					t.Errorf("%d lines for %d calls, want %d", n, 2*calls, most)
				}
			})
		})
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, _ := strings.Cut(addr, ":")
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestFaultD2FileLimit: a log beyond the greatest size of a file (ulimit -f) is lost, and nothing else. The SIGXFSZ that
// the kernel sends is huptime's, and must neither end it nor come to the service.
func TestFaultD2FileLimit(t *testing.T) {
	log, err := os.OpenFile(t.TempDir()+"/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.Truncate(1 << 20); err != nil { // it is larger than may be already
		t.Fatal(err)
	}
	s := python(t, "thread")
	cmd := exec.Command("/bin/sh", append([]string{"-c", `ulimit -f 64 && exec "$0" "$@"`, huptime}, s.command...)...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}()
	s.awaitAlive(t)
	l := startLoad(t, s.addr, s.ask, 2)
	for range 3 {
		before := l.pids()
		cmd.Process.Signal(syscall.SIGHUP)
		l.awaitNewPID(max(before, 1))
	}
	l.check("restarts")
}
