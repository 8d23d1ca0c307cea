package notify

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launch says what to start. The launcher passes on the open-file limit as huptime found it.
type Launch struct {
	Command []string
	Program Program
	// Env is the environment, in which the command's PATH is looked for too; nil is huptime's own.
	Env []string
	// Dir is the working directory, resolved by the launcher: relative to huptime's own, and what is relative in
	// the command or in PATH is relative to it, as after cd in a shell. Empty is huptime's own.
	Dir string
	// Unfiltered starts a program that is no service: it gets no filter, Program is not used, and Handshake has
	// no listener to hand over.
	Unfiltered bool
	// Stdio are the descriptors that become 0, 1 and 2; they stay the caller's. Nil is huptime's own.
	Stdio *[3]int
	// Inherited are the descriptors above 2 that whoever started huptime meant
	// for the service; they keep their numbers.
	Inherited []int
	// Passed become the descriptors from 3 on, and PassedNames, as many, what they are called: socket activation as of sd_listen_fds(3),
	// with LISTEN_PID the leader's PID. They stay the caller's. No inherited one may have a number among theirs.
	Passed      []int
	PassedNames []string
	// Through, if not empty, is the argument list of this very binary that becomes the leader in the service's stead and runs
	// it; the path of the command and the command are appended to it.
	Through []string
	// Session makes the launcher the head of a session of its own, as systemd does. Nobody can join a session, so whoever is in it descends from the
	// launcher. It has no controlling terminal then.
	Session bool
	// Hangup lets the service have SIGHUP: its default action is set, not SIG_IGN. It goes with [WithSIGHUP].
	Hangup bool

	trial bool // see Try
}

// Launcher is a process that was started to become a service.
type Launcher struct {
	// PID is the launcher's, and will be the leader's: execve keeps it. It is
	// the head of a process group of its own, and of a session where Launch.Session was set.
	PID     int
	Session bool

	control int // the supervisor's end; owned, closed by Handshake
	orders  instructions
	command string
}

// Start forks a launcher. The caller must call Handshake on what it returns, and
// must reap the process. The calling goroutine must stay on one OS thread that lives as
// long as the supervisor: the kernel sends the leader its parent-death signal
// when that thread ends (PR_SET_PDEATHSIG in prctl(2)).
func Start(l Launch) (*Launcher, error) {
	orders := instructions{Dir: []byte(l.Dir), Unfiltered: l.Unfiltered, Hangup: l.Hangup, Through: l.Through, Passed: l.PassedNames, Trial: l.trial}
	if !l.Unfiltered {
		var err error
		if orders.Program, err = l.Program.MarshalBinary(); err != nil {
			return nil, err
		}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot start a launcher: %w", os.NewSyscallError("socketpair", err))
	}
	defer unix.Close(pair[1])
	files, control := descriptorTable(l.Passed, l.Inherited, pair[1])
	if l.Stdio != nil {
		for i, fd := range l.Stdio {
			files[i] = uintptr(fd)
		}
	}
	env := l.Env
	if env == nil {
		env = os.Environ()
	}
	args := append([]string{launcherName, strconv.Itoa(control)}, l.Command...)
	pid, err := forkDeaf(args, env, files, l.Session)
	if err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("cannot start a launcher: %w", err)
	}
	return &Launcher{PID: pid, Session: l.Session, control: pair[0], orders: orders, command: l.Command[0]}, nil
}

// StartIdle starts a launcher that waits for instructions which never come: a child to try things on. The
// caller must call Discard on it.
func StartIdle() (*Launcher, error) {
	return Start(Launch{Command: []string{"idle"}, Program: Program{{}}})
}

// Discard ends a launcher that was not shaken hands with, and reaps it.
func (l *Launcher) Discard() {
	unix.Close(l.control)
	l.reap()
}

// forkDeaf starts the launcher with SIGHUP blocked: between fork and the
// launcher's own arrangements a SIGHUP meant for everything of the service's
// name (killall) would otherwise kill it.
func forkDeaf(args, env []string, files []uintptr, session bool) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, old unix.Sigset_t
	block.Val[0] = 1 << (uint(unix.SIGHUP) - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old); err != nil {
		return 0, os.NewSyscallError("rt_sigprocmask", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	// /proc/self/exe is this very binary, also when the file was replaced by an
	// upgrade meanwhile: both ends of the conversation are of one version.
	pid, err := syscall.ForkExec("/proc/self/exe", args, &syscall.ProcAttr{
		Env:   env,
		Files: files,
		Sys: &syscall.SysProcAttr{
			// A group of its own: a master that signals its whole group when
			// it stops must hit its own generation only.
			Setpgid: !session,
			Setsid:  session, // a group too
			// Without its supervisor a generation's notified calls fail for
			// ever; better that it ends and frees its addresses.
			Pdeathsig: syscall.SIGTERM,
		},
	})
	if err != nil {
		return 0, &os.PathError{Op: "execute", Path: "/proc/self/exe", Err: err}
	}
	return pid, nil
}

// descriptorTable lays out what the launcher inherits: 0, 1, 2, the passed ones from 3 on, the inherited
// ones at their own numbers, and the control socket at the first free one.
func descriptorTable(passed, inherited []int, control int) (files []uintptr, at int) {
	const none = ^uintptr(0)
	files = []uintptr{0, 1, 2}
	for _, fd := range passed {
		files = append(files, uintptr(fd))
	}
	for _, fd := range inherited {
		for len(files) <= fd {
			files = append(files, none)
		}
		files[fd] = uintptr(fd)
	}
	for at = 3; at < len(files) && files[at] != none; at++ {
	}
	if at == len(files) {
		files = append(files, none)
	}
	files[at] = uintptr(control)
	return files, at
}

// Handshake hands the launcher its filter, takes the listener, and returns when the
// service's own code runs. serve is called with the listener before that,
// because execve may be followed by notified calls at once; the listener is
// then serve's to close. For an unfiltered program serve is nil. The error is a *[LaunchError] where the launcher said why,
// and the listener may have been handed over even so.
func (l *Launcher) Handshake(serve func(*Listener)) error {
	defer unix.Close(l.control)
	if err := sendMessage(l.control, l.orders); err != nil {
		return l.died(err)
	}
	for {
		var m message
		fd, err := receiveMessage(l.control, &m)
		switch {
		case errors.Is(err, errEnd) && serve == nil:
			return nil
		case errors.Is(err, errEnd):
			return l.died(err)
		case err != nil:
			return l.died(err)
		case m.Failed != nil:
			return m.Failed
		case fd >= 0 && serve != nil:
			serve(newListener(fd))
			serve = nil
		}
	}
}

// ErrLauncherDied says that the launcher ended without a word, for instance by a signal.
var ErrLauncherDied = errors.New("the launcher ended before the service ran")

func (l *Launcher) died(err error) error {
	return fmt.Errorf("cannot run %s: %w (%w)", l.command, ErrLauncherDied, err)
}
