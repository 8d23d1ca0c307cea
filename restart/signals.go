package restart

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// ParseSignal reads "TERM", "SIGTERM", "term" or "15".
func ParseSignal(s string) (syscall.Signal, error) {
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
	unix.SIGPROF: true, // the Go profiler's
}

// inbox holds the channels on which signals come. Each kind has its own, so
// that a storm of one kind can't crowd out another.
type inbox struct {
	hup     chan os.Signal // capacity 1: HUPs that nobody has looked at yet are one
	child   chan os.Signal // capacity 1: one look reaps all
	end     chan os.Signal // TERM and INT
	forward chan os.Signal
}

// openInbox starts to catch signals. It must run before the first launch, so that none is lost.
func openInbox() *inbox {
	in := &inbox{
		hup:     make(chan os.Signal, 1),
		child:   make(chan os.Signal, 1),
		end:     make(chan os.Signal, 8),
		forward: make(chan os.Signal, 64),
	}
	signal.Notify(in.hup, unix.SIGHUP)
	signal.Notify(in.child, unix.SIGCHLD)
	signal.Notify(in.end, unix.SIGTERM, unix.SIGINT)
	var rest []os.Signal
	// 32 and 33 are the C library's own (nptl(7)); 34 is used by the Go runtime.
	for n := syscall.Signal(1); n <= 64; n++ {
		if notForwarded[n] || n == unix.SIGTERM || n == unix.SIGINT || n >= 32 && n <= 34 {
			continue
		}
		rest = append(rest, n)
	}
	signal.Notify(in.forward, rest...)
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE)
	return in
}

func (in *inbox) close() {
	for _, c := range []chan os.Signal{in.hup, in.child, in.end, in.forward} {
		signal.Stop(c)
	}
}
