package notify

import (
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/activation"
)

// launcherName is argv[0] of a launcher. No shell or path look-up makes one
// with a blank, so no user's command line is taken for it by accident.
const launcherName = "huptime launcher"

// IsLauncher tells whether this process was started by [Start] to become a
// service. It is the first thing that main asks.
func IsLauncher(args []string) bool {
	return len(args) > 2 && args[0] == launcherName
}

// RunLauncher turns the process into the service named by args, as made by
// [Start]. It returns only where that failed, with the exit status. Why is
// reported to the supervisor, which has the log.
func RunLauncher(args []string) int {
	control, err := strconv.Atoi(args[1])
	if err != nil {
		return 125
	}
	// The filter is installed on one thread, and execve keeps that one alone.
	runtime.LockOSThread()
	unix.CloseOnExec(control)
	failure := launch(control, args[2:])
	_ = sendMessage(control, message{Failed: failure})
	return failure.ExitStatus()
}

func launch(control int, command []string) *LaunchError {
	fail := func(op string, errno unix.Errno) *LaunchError {
		return &LaunchError{Op: op, Command: command[0], Errno: errno}
	}
	var in instructions
	if _, err := receiveMessage(control, &in); err != nil {
		return fail(opPrepare, unix.EPIPE)
	}
	var program Program
	if !in.Unfiltered {
		if err := program.UnmarshalBinary(in.Program); err != nil {
			return fail(opPrepare, unix.EINVAL)
		}
	}
	if in.Trial {
		if _, errno := installFilter(program); errno != 0 {
			return fail(opFilter, errno)
		}
		unix.Exit(0)
	}
	if len(in.Dir) > 0 {
		// Before the look-up, for which "./service" and "." in PATH are meant in the new directory.
		if err := unix.Chdir(string(in.Dir)); err != nil {
			failure := fail(opEnter, err.(unix.Errno))
			failure.Dir = string(in.Dir)
			return failure
		}
	}
	path, errno := lookup(command[0])
	if errno != 0 {
		return fail(opFind, errno)
	}
	if errno := cleanSlate(in.Hangup); errno != 0 {
		return fail(opPrepare, errno)
	}
	if len(in.Passed) > 0 {
		activation.HandOn(in.Passed)
	}
	if in.Unfiltered {
		return fail(opExecute, execute(path, command))
	}
	listener, errno := installFilter(program)
	if errno != 0 {
		return fail(opFilter, errno)
	}
	if err := sendMessage(control, message{}, listener); err != nil {
		return fail(opReport, unix.EPIPE)
	}
	if len(in.Through) > 0 {
		return fail(opExecute, execute("/proc/self/exe", slices.Concat(in.Through, []string{path}, command)))
	}
	return fail(opExecute, execute(path, command))
}

// cleanSlate makes the process what a service expects of its start: default
// dispositions but for SIGHUP, which is ignored (the service is deaf to it;
// SIG_IGN survives execve), and no signal blocked. Handlers of the Go runtime
// would be reset by execve anyway; dispositions ignored by whoever started
// huptime (nohup, a shell's background job) or by huptime itself would not.
//
// hangup leaves SIGHUP its default too: then the service is not deaf.
func cleanSlate(hangup bool) unix.Errno {
	const lastSignal = 64
	for sig := unix.Signal(1); sig <= lastSignal; sig++ {
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP:
			continue
		case unix.SIGHUP:
			// Before the mask is emptied: a SIGHUP that came while the launcher
			// started is dropped here, and does not kill it.
			if errno := setDisposition(sig, sigIgnore); errno != 0 {
				return errno
			}
		default:
			if errno := setDisposition(sig, sigDefault); errno != 0 {
				return errno
			}
		}
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil); err != nil {
		return err.(unix.Errno)
	}
	if hangup {
		return setDisposition(unix.SIGHUP, sigDefault)
	}
	return 0
}

// installFilter loads the program on this thread with the best flags that the
// kernel takes, and returns the listener.
func installFilter(program Program) (int, unix.Errno) {
	flags := []uintptr{
		// Without WAIT_KILLABLE_RECV (5.19) any signal takes a caller out of a
		// call that is already being answered. Without SPEC_ALLOW (4.17)
		// kernels before 5.16 slow every filtered process down.
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	}
	var errno unix.Errno
	for _, f := range flags {
		var fd int
		fd, errno = seccompLoad(program, f)
		if errno == unix.EACCES {
			// Without CAP_SYS_ADMIN the kernel wants no_new_privs, and only
			// then is it set: it would break a service's setuid helpers.
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return -1, err.(unix.Errno)
			}
			fd, errno = seccompLoad(program, f)
		}
		if errno == 0 {
			return fd, 0
		}
		if errno != unix.EINVAL {
			break
		}
	}
	return -1, errno
}

// execute becomes the service. It returns only the reason why not. A file
// without a known format is handed to the shell, as execvp(3) and shells do.
func execute(path string, command []string) unix.Errno {
	err := unix.Exec(path, command, os.Environ())
	if err == unix.ENOEXEC {
		err = unix.Exec("/bin/sh", append([]string{"sh", path}, command[1:]...), os.Environ())
	}
	if errno, ok := err.(unix.Errno); ok {
		return errno
	}
	return unix.EINVAL
}
