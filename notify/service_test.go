package notify

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

var connections = sync.OnceValues(func() (Program, error) { return BuildFilter(LevelConnections, WithUnlink, WithRename) })

// testProgram is the filter that the tests launch with.
func testProgram(t *testing.T) Program {
	t.Helper()
	if err := Probe(); errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	p, err := connections()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// handlerFunc is a Handler.
type handlerFunc func(*Request) Reply

func (f handlerFunc) Handle(r *Request) Reply { return f(r) }

var letRun = handlerFunc(func(*Request) Reply { return Continue() })

// launched is a service that was launched, whether it ran or not.
type launched struct {
	pid    int
	pidfd  int
	served chan error // gets what Serve returned; nil where there was no listener
	err    error      // what Handshake returned
}

// launchService starts a command and serves it. It is over with the test: with every process of its group.
func launchService(t *testing.T, h Handler, trace Trace, inherited []int, command ...string) *launched {
	t.Helper()
	program := testProgram(t)
	var l *Launcher
	var err error
	onMain(func() { l, err = Start(Launch{Command: command, Program: program, Inherited: inherited}) })
	if err != nil {
		t.Fatal(err)
	}
	s := &launched{pid: l.PID}
	t.Cleanup(func() {
		_ = unix.Kill(-s.pid, unix.SIGKILL)
		if s.served != nil {
			s.hungUp(t)
		}
		for {
			if _, err := unix.Wait4(-s.pid, nil, 0, nil); err != nil && err != unix.EINTR {
				break
			}
		}
		_ = unix.Close(s.pidfd)
	})
	if s.pidfd, err = unix.PidfdOpen(l.PID, 0); err != nil {
		t.Fatal(err)
	}
	s.err = l.Handshake(s.serve(h, trace))
	return s
}

// serve is what Handshake is given. The goroutine ends with the hangup.
func (s *launched) serve(h Handler, trace Trace) func(*Listener) {
	return func(l *Listener) {
		s.served = make(chan error, 1)
		go func() {
			err := l.Serve(h, trace)
			s.served <- errors.Join(err, l.Close())
		}()
	}
}

// hungUp waits for the end of Serve.
func (s *launched) hungUp(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.served:
		if err != nil {
			t.Error(err)
		}
		s.served <- nil // whoever asks again
	case <-time.After(patience):
		t.Errorf("the listener of %d does not hang up", s.pid)
	}
}

// wait returns the status of the leader's end.
func (s *launched) wait(t *testing.T) unix.WaitStatus {
	t.Helper()
	polled := []unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); ; {
		left := time.Until(deadline)
		n, err := unix.Poll(polled, int(max(left, 0).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("process %d runs on: %v", s.pid, err)
		}
		break
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(s.pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return status
}

// exits checks that the leader exits with a code.
func (s *launched) exits(t *testing.T, code int) {
	t.Helper()
	if status := s.wait(t); !status.Exited() || status.ExitStatus() != code {
		t.Errorf("status %#x, want exit code %d", status, code)
	}
}

// leader is a puppet that can have one worker.
type leader struct {
	*puppets.Puppet
	workerControl [2]int // the puppet's end, by its number there, and the test's
}

// launchPuppet launches a puppet.
func launchPuppet(t *testing.T, h Handler, trace Trace) (*launched, leader) {
	t.Helper()
	var ours, theirs [2]int
	for i := range ours {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours[i], theirs[i] = pair[0], pair[1]
	}
	// Cleanups run last first: the processes are gone before the connections.
	t.Cleanup(func() { _ = unix.Close(ours[1]) })
	p := puppets.New(t, 0, ours[0])
	s := launchService(t, h, trace, theirs[:], self(t), puppets.Name, strconv.Itoa(theirs[0]))
	for _, fd := range theirs {
		_ = unix.Close(fd)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	p.PID = s.pid
	return s, leader{p, [2]int{theirs[1], ours[1]}}
}

// worker starts another process of the generation. Call it once.
func (l leader) worker(t *testing.T) *puppets.Puppet {
	t.Helper()
	r := l.Order(t, puppets.Order{Worker: []int{l.workerControl[0]}}).Wait(t)
	if r.Errno != 0 {
		t.Fatal(r.Errno)
	}
	control, err := unix.FcntlInt(uintptr(l.workerControl[1]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return puppets.New(t, r.Value, control)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// supervisorName starts this binary as the least that huptime can be: it runs a command under a
// filter, lets every call run, and exits with the command's status. So a test can choose everything that a service inherits.
const supervisorName = "supervisor"

func runSupervisor(command []string) int {
	cannot := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		var e *LaunchError
		if errors.As(err, &e) {
			return e.ExitStatus()
		}
		return 125
	}
	inherited, err := Inherited()
	if err != nil {
		return cannot(err)
	}
	program, err := connections()
	if err != nil {
		return cannot(err)
	}
	l, err := Start(Launch{Command: command, Program: program, Inherited: inherited})
	if err != nil {
		return cannot(err)
	}
	var s launched
	err = l.Handshake(s.serve(letRun, nil))
	var status unix.WaitStatus
	if _, errWait := unix.Wait4(l.PID, &status, 0, nil); errWait != nil {
		return cannot(errWait)
	}
	if err != nil {
		return cannot(err)
	}
	if err := <-s.served; err != nil {
		return cannot(err)
	}
	return status.ExitStatus()
}
