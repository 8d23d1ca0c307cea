package notify

import "golang.org/x/sys/unix"

// Try installs the program in a child that ends at once: where that fails no service can be run under it here. [Probe] can't tell all,
// for instance that another listener is there already. The error is a *[LaunchError] about the command; it matches
// [ErrUnsupported] where the kernel, or the container, refuses. It reaps the child itself, so call it before anybody else reaps. The
// calling goroutine must stay on one OS thread meanwhile.
func Try(program Program, command string) error {
	l, err := Start(Launch{Command: []string{command}, Program: program, trial: true})
	if err != nil {
		return err
	}
	defer l.reap()
	return l.Handshake(nil)
}

// reap kills the launcher and waits for it.
func (l *Launcher) reap() {
	unix.Kill(l.PID, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(l.PID, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
