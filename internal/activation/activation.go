// Package activation speaks socket activation as of sd_listen_fds(3), from both sides: it takes what whoever started this process
// has handed to it, and hands on.
package activation

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The variables of socket activation (sd_listen_fds(3)), and the first descriptor that is handed over so.
const (
	listenPID   = "LISTEN_PID"
	listenPIDFD = "LISTEN_PIDFDID" // systemd 257: the same as an inode number of pidfs
	listenFDs   = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"

	firstPassed = 3
	// unnamed is what systemd calls descriptors without a name.
	unnamed = "unknown"
)

// Take takes the descriptors that whoever started huptime has handed to it by LISTEN_FDS: they are close-on-exec from now
// on, and the variables are no longer in the environment, so that no service takes them for its own. names has as many elements. Where LISTEN_PID
// is not this process, they are somebody else's and stay as they are. The caller owns the descriptors. Call it before anything is started.
func Take() (fds []int, names []string, err error) {
	if os.Getenv(listenPID) != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil
	}
	count, err := strconv.Atoi(os.Getenv(listenFDs))
	if err != nil || count < 0 {
		return nil, nil, fmt.Errorf("%s=%q is no number of descriptors: unset it and %s, or correct what starts huptime", listenFDs, os.Getenv(listenFDs), listenPID)
	}
	if given := os.Getenv(listenNames); given != "" {
		names = strings.Split(given, ":")
	}
	for len(fds) < count { // not up to firstPassed+count, which need not be a number
		fd := firstPassed + len(fds)
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return nil, nil, fmt.Errorf("%s=%d, but descriptor %d is not open: unset %s, or correct what starts huptime", listenFDs, count, fd, listenFDs)
		}
		fds = append(fds, fd)
	}
	for len(names) < count {
		names = append(names, unnamed)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	for _, name := range []string{listenPID, listenPIDFD, listenFDs, listenNames} {
		os.Unsetenv(name)
	}
	return fds, names[:count], nil
}

// Stay lets this process have what its parent was handed by LISTEN_FDS: a process that goes into the background is
// another than the one that was started.
func Stay() {
	if os.Getenv(listenPID) == strconv.Itoa(os.Getppid()) {
		os.Setenv(listenPID, strconv.Itoa(os.Getpid()))
		os.Unsetenv(listenPIDFD)
	}
}

// HandOn puts the variables for this very process, which is about to become the service, into the environment. A
// service ignores them if they are for another PID, so nobody but it can set them. names are those of the descriptors from 3 on, which are open already.
func HandOn(names []string) {
	os.Unsetenv(listenPIDFD)
	for _, v := range [][2]string{
		{listenPID, strconv.Itoa(os.Getpid())},
		{listenFDs, strconv.Itoa(len(names))},
		{listenNames, strings.Join(names, ":")},
	} {
		os.Setenv(v[0], v[1])
	}
}
