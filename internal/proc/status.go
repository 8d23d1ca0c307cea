package proc

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/signals"
)

// SignalBase plus a signal's number is the exit status that a shell reports for a process that the signal ended.
const SignalBase = 128

// Status is how a process ended, as wait4(2) tells it.
type Status unix.WaitStatus

// Code is the exit status that a shell would report.
func (s Status) Code() int {
	w := unix.WaitStatus(s)
	if w.Signaled() {
		return SignalBase + int(w.Signal())
	}
	return w.ExitStatus()
}

func (s Status) String() string {
	w := unix.WaitStatus(s)
	if w.Signaled() {
		return "killed by " + signals.Name(w.Signal())
	}
	return fmt.Sprintf("exited with status %d", w.ExitStatus())
}
