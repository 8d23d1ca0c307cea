package suite

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for an event. It is no measure of anything: reaching it fails the test.
const patience = 30 * time.Second

// event is a line of huptime's log.
type event struct {
	Msg        string
	Generation int
	PID        int
	Reason     string
	Status     string
	Why        string
	Signal     string
	Track      string
	Output     string
	Address    string
	Error      string
	Took       string
	Hint       string
}

// supervisor is a running huptime.
type supervisor struct {
	t      *testing.T
	cmd    *exec.Cmd
	mark   string
	exited chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each line
	events  []event
	output  []string // what is no log line: the service's own
}

// option changes how huptime is started.
type option func(*exec.Cmd)

// start runs huptime with flags and a command. It is ended with the test, with all that it started.
func start(t *testing.T, args []string, options ...option) *supervisor {
	t.Helper()
	s := &supervisor{t: t, mark: fmt.Sprintf("SUITE_MARK=%d.%d", os.Getpid(), time.Now().UnixNano()),
		exited: make(chan struct{}), changed: make(chan struct{})}
	// Most tests are about something else, and need not wait out the probation; --min-ready in args comes later and holds.
	s.cmd = exec.Command(huptime, append([]string{"--log-format=json", "--debug", "--min-ready=20ms"}, args...)...)
	s.cmd.Env = append(os.Environ(), s.mark)
	for _, o := range options {
		o(s.cmd)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = write
	if s.cmd.Stdout == nil {
		s.cmd.Stdout = write
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	var reading sync.WaitGroup
	reading.Go(func() { s.read(read) })
	go func() {
		s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(patience):
			t.Errorf("huptime did not end by SIGTERM")
			s.cmd.Process.Kill()
			<-s.exited
		}
		if left := s.processes(); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		reading.Wait()
		read.Close()
		if t.Failed() {
			s.dump()
		}
	})
	return s
}

func (s *supervisor) read(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var e event
		line := lines.Text()
		isEvent := strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &e) == nil
		s.mu.Lock()
		if isEvent {
			s.events = append(s.events, e)
		} else {
			s.output = append(s.output, line)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *supervisor) dump() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range s.events {
		if i >= len(s.events)-40 || e.Error != "" {
			s.t.Logf("log: %+v", e)
		}
	}
	for _, line := range s.output[max(0, len(s.output)-20):] {
		s.t.Logf("output: %s", line)
	}
}

// until waits until ok holds; it is asked after each line.
func (s *supervisor) until(what string, ok func() bool) {
	s.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		s.mu.Lock()
		changed, done := s.changed, ok()
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			s.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// await waits for the event of a generation and returns it. 0 is any.
func (s *supervisor) await(msg string, generation int) event {
	s.t.Helper()
	var found event
	s.until(fmt.Sprintf("%q of generation %d", msg, generation), func() bool {
		i := slices.IndexFunc(s.events, func(e event) bool {
			return e.Msg == msg && (generation == 0 || e.Generation == generation)
		})
		if i >= 0 {
			found = s.events[i]
		}
		return i >= 0
	})
	return found
}

// awaitOutput waits for a line of the service's that contains text.
func (s *supervisor) awaitOutput(text string) string {
	s.t.Helper()
	var found string
	s.until("the output "+text, func() bool {
		i := slices.IndexFunc(s.output, func(line string) bool { return strings.Contains(line, text) })
		if i >= 0 {
			found = s.output[i]
		}
		return i >= 0
	})
	return found
}

// count tells how many such events there were.
func (s *supervisor) count(msg string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events {
		if e.Msg == msg {
			n++
		}
	}
	return n
}

func (s *supervisor) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("cannot signal huptime: %v", err)
	}
}

func (s *supervisor) hup() { s.t.Helper(); s.signal(syscall.SIGHUP) }

// exit waits for huptime's end and returns its exit status as a shell would see it.
func (s *supervisor) exit() int {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatal("huptime does not end")
	}
	return shellStatus(s.cmd.ProcessState)
}

func shellStatus(state *os.ProcessState) int {
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// processes lists the living processes of the service: those that have the mark in their environment, but huptime.
func (s *supervisor) processes() []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == s.cmd.Process.Pid {
			continue
		}
		env, err := os.ReadFile(dir + "/environ")
		if err == nil && strings.Contains("\x00"+string(env), "\x00"+s.mark+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// freePort asks the kernel for a port that nobody has, and keeps it for the test: a socket that is bound and does not
// listen keeps the kernel from giving the port to another test or to a client's connection. SO_REUSEADDR, which it gets
// after its own bind, lets a service that sets it as well listen there all the same.
func freePort(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return addr.(*unix.SockaddrInet4).Port
}

// write puts text into a new or existing file, in one step.
func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	return file
}
