package restart

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Exit statuses of huptime's own. All others are the service's.
const (
	ExitFailure       = 125 // huptime itself failed, or was used wrongly
	ExitNotExecutable = 126 // the command can't be executed
	ExitNotFound      = 127 // the command was not found
	exitSignalBase    = 128 // plus the number of the signal that ended the service
)

// Status is how a process ended, as wait4(2) tells it.
type Status unix.WaitStatus

// Code is the exit status that a shell would report.
func (s Status) Code() int {
	w := unix.WaitStatus(s)
	if w.Signaled() {
		return exitSignalBase + int(w.Signal())
	}
	return w.ExitStatus()
}

func (s Status) String() string {
	w := unix.WaitStatus(s)
	if w.Signaled() {
		return "killed by " + signalName(w.Signal())
	}
	return fmt.Sprintf("exited with status %d", w.ExitStatus())
}
