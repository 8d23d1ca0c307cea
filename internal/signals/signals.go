// Package signals knows the signals of Linux by name, and which of them a process in front of a service hands on to it (signal(7)).
package signals

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is "SIGTERM" and the like, or "signal 40".
func Name(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// Parse reads "TERM", "SIGTERM", "term" or "15".
func Parse(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("no signal has the number %d: use 1 to 64, or a name such as TERM", n)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("no signal is called %q: use a name such as TERM or a number", s)
}

// notForwarded are the signals that mean something to the supervisor, or that the kernel
// or the Go runtime sends to it for its own doings.
var notForwarded = map[syscall.Signal]bool{
	unix.SIGHUP:  true,                     // restarts
	unix.SIGCHLD: true,                     // reaping
	unix.SIGURG:  true,                     // the Go runtime's preemption
	unix.SIGKILL: true, unix.SIGSTOP: true, // can't be caught
	unix.SIGTSTP: true, unix.SIGCONT: true, // job control stops and continues the supervisor itself
	unix.SIGTTIN: true, unix.SIGTTOU: true, // ignored: it hands the terminal over from the background
	unix.SIGPIPE: true,                                                                                                 // ignored: a log that nobody reads must not end the service
	unix.SIGSEGV: true, unix.SIGBUS: true, unix.SIGFPE: true, unix.SIGILL: true, unix.SIGTRAP: true, unix.SIGSYS: true, // faults
	unix.SIGXFSZ: true, // ignored: the kernel's answer to a log that is beyond a limit (ulimit -f)
	unix.SIGPROF: true, // the Go profiler's
}

// Forwarded lists the signals that are handed on, TERM and INT among them.
func Forwarded() []os.Signal {
	var list []os.Signal
	// 32 and 33 are the C library's own (nptl(7)); 34 is used by the Go runtime.
	for n := syscall.Signal(1); n <= 64; n++ {
		if !notForwarded[n] && (n < 32 || n > 34) {
			list = append(list, n)
		}
	}
	return list
}
