// Package daemon puts a program into the background once it is ready.
//
// The program executes itself once more, as a background process in a session of its own
// (setsid(2)), and waits for one byte from it:
//
//	foreground process               background process
//	Start: pipe, fork, setsid, exec ─▶ Adopt: its own arguments, and ready
//	TERM, INT ───── passed on ──────▶ ...
//	exits 0 ◀────── one byte ──────── ready()
//	exits as it does ◀ end of file ── exits before that
//
// Which process is the background one is told by its argument 0, so nothing of it is in
// the environment, which a service would inherit. The pipe is closed by ready
// and by execve. Standard input is /dev/null in the background; standard output and error, the
// working directory, the other descriptors and the limits stay as they were.
// The foreground process dying of a signal that it does not pass on leaves the
// background one running.
package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// name is argument 0 of the background process. No shell or path look-up makes
// one with a blank, so no user's command line is taken for it by accident.
const name = "huptime daemon"

// IsBackground tells whether this process was started by [Start].
func IsBackground(args []string) bool {
	return len(args) >= 2 && args[0] == name
}

// Adopt is called in the background process, before anything is forked. It
// returns the arguments that Start was given, and a function that lets the
// foreground process end; it may be called more than once.
func Adopt(args []string) (original []string, ready func(), err error) {
	fd, err := strconv.Atoi(args[1])
	if err != nil || fd <= 2 {
		return nil, nil, fmt.Errorf("cannot run in the background: %q is no descriptor; do not start huptime by this name", args[1])
	}
	// The service must not have it: the foreground process would wait for it too.
	unix.CloseOnExec(fd)
	var once sync.Once
	ready = func() {
		once.Do(func() {
			for {
				// EPIPE: the foreground process has been killed; nobody waits. The Go runtime
				// turns its SIGPIPE into that error for all descriptors but 1 and 2 (os/signal).
				if _, err := unix.Write(fd, []byte{1}); err != unix.EINTR {
					break
				}
			}
			unix.Close(fd)
		})
	}
	return append([]string{"huptime"}, args[2:]...), ready, nil
}

// Start runs this very program in the background with the arguments, of which
// the first is the program's name, and waits until it is ready, or over. It
// returns 0, or the exit status of what was over before it was ready, as a shell
// would see it. The error is one line that nobody else has said: with status 0 huptime could not go into the
// background, or nothing stayed there. What the background process has to say it
// says itself, on standard error.
//
// Call it before the process starts anything: it waits for its child, and takes
// TERM and INT.
func Start(args []string) (int, error) {
	if unix.Getpid() == 1 {
		return 0, errors.New("cannot go into the background as PID 1: its end is the container's; run huptime in the foreground")
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot go into the background: cannot open /dev/null: %w", err)
	}
	defer unix.Close(null)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("cannot go into the background: %w", os.NewSyscallError("pipe2", err))
	}
	defer unix.Close(pipe[0])
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	pid, err := fork(args, null, pipe[1])
	unix.Close(pipe[1])
	if err != nil {
		return 0, fmt.Errorf("cannot go into the background: %w", err)
	}
	said := make(chan bool, 1)
	go func() { said <- hear(pipe[0]) }() // ends when the background process is ready or over
	for {
		select {
		case sig := <-signals:
			// It is not reaped yet, so the PID is its own.
			_ = unix.Kill(pid, sig.(syscall.Signal))
		case ready := <-said:
			if ready {
				return 0, nil
			}
			return over(pid)
		}
	}
}

// fork starts the background process. Descriptors that whoever started huptime meant for the service
// stay open at their own numbers, because nothing closes them; so does the pipe.
func fork(args []string, null, pipe int) (int, error) {
	if _, err := unix.FcntlInt(uintptr(pipe), unix.F_SETFD, 0); err != nil {
		return 0, os.NewSyscallError("fcntl", err)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{name, strconv.Itoa(pipe)}, args[1:]...), &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{uintptr(null), 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, &os.PathError{Op: "execute", Path: "/proc/self/exe", Err: err}
	}
	return pid, nil
}

// hear tells whether the byte came, or else the end.
func hear(fd int) bool {
	var b [1]byte
	for {
		n, err := unix.Read(fd, b[:])
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// over takes the status of a background process that ended before it was ready.
func over(pid int) (int, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return 0, fmt.Errorf("cannot tell how the background process ended: %w", err)
		}
	}
	switch {
	case status.Signaled():
		return 128 + int(status.Signal()), fmt.Errorf("the background process was killed by %s before the service was ready", unix.SignalName(status.Signal()))
	case status.ExitStatus() == 0:
		// To say 0 would claim that the service runs.
		return 0, errors.New("the service exited with status 0 before it was ready; nothing runs in the background")
	}
	return status.ExitStatus(), nil
}
