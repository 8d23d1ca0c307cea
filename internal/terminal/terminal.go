// Package terminal hands the foreground of the controlling terminal to the
// current generation, as a shell does with its jobs: each generation has a
// process group of its own, and only the foreground one may read from the terminal and
// gets Ctrl-C and window size changes.
package terminal

import "golang.org/x/sys/unix"

// Terminal is the controlling terminal, or none. All methods do nothing where there is
// none, or where huptime was not started in its foreground.
type Terminal struct {
	fd  int // standard input; not owned
	own int // the supervisor's process group
}

// Controlling finds the terminal on standard input, if huptime is its
// foreground job. SIGTTOU must be ignored: it is sent to those who change the foreground from the
// background (tcsetpgrp(3)).
func Controlling() *Terminal {
	foreground, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil || foreground != unix.Getpgrp() {
		return nil
	}
	return &Terminal{fd: 0, own: foreground}
}

// Give makes the process group the foreground one.
func (t *Terminal) Give(group int) {
	if t == nil {
		return
	}
	// It fails where the group has ended meanwhile, or the terminal was hung up: nothing to give then.
	_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group)
}

// Restore makes the supervisor's own group the foreground one.
func (t *Terminal) Restore() {
	if t != nil {
		t.Give(t.own)
	}
}
