package notify

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LaunchError says why a launcher could not become the service.
type LaunchError struct {
	Op      string     // what it did: "find", "execute", "install the filter for", ...
	Command string     // the command as the user named it
	Dir     string     // the working directory that it could not enter, or empty
	Errno   unix.Errno // why the kernel refused
}

func (e *LaunchError) Error() string {
	switch {
	case e.Op == opFind && e.Errno == unix.ENOENT:
		return fmt.Sprintf("cannot run %s: not found; check the name and PATH", e.Command)
	case e.Op == opFind && e.Errno == unix.EACCES:
		return fmt.Sprintf("cannot run %s: not executable; check its mode (chmod +x) and that it is a file", e.Command)
	case e.Op == opEnter:
		return fmt.Sprintf("cannot run %s: cannot enter the directory %s: %s; name one that exists and may be entered", e.Command, e.Dir, e.Errno.Error())
	case e.Op == opFilter && e.Errno == unix.EBUSY:
		return fmt.Sprintf("cannot run %s: its processes already have a seccomp listener, and the kernel permits one: do not run huptime under huptime, nor under a container manager that holds a listener itself", e.Command)
	case e.Op == opFilter:
		return fmt.Sprintf("cannot run %s: this kernel or container refuses seccomp user notification (%s): huptime needs Linux 5.9 or later, and a container profile that allows seccomp(2)", e.Command, unix.ErrnoName(e.Errno))
	}
	return fmt.Sprintf("cannot %s %s: %s", e.Op, e.Command, e.Errno.Error())
}

// Is makes errors.Is find [ErrUnsupported] where it was the filter that could not be installed.
func (e *LaunchError) Is(target error) bool { return e.Op == opFilter && target == ErrUnsupported }

// Unwrap makes errors.Is find the errno.
func (e *LaunchError) Unwrap() error { return e.Errno }

const (
	opFind    = "find"
	opEnter   = "enter the directory of"
	opFilter  = "install the filter for"
	opExecute = "execute"
	opPrepare = "prepare"
	opReport  = "hand over the listener of"
)

// ExitStatus is what a shell would exit with: 127 where the command is not
// there, 126 where it can't be executed, 125 where huptime itself failed.
func (e *LaunchError) ExitStatus() int {
	switch e.Op {
	case opFind, opExecute:
		if e.Errno == unix.ENOENT || e.Errno == unix.ENOTDIR {
			return 127
		}
		return 126
	}
	return 125
}
