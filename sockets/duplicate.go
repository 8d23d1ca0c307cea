package sockets

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// duplicate copies descriptor fd of process pid into the supervisor with
// pidfd_getfd(2) (Linux 5.6; needs ptrace access to the process). The caller
// owns the copy. Never keep one of an accepted connection: while it is open the client
// does not see the service's FIN.
func duplicate(pid, fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot look into process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	defer unix.Close(pidfd)
	dup, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot copy descriptor %d of process %d: %w", fd, pid, os.NewSyscallError("pidfd_getfd", err))
	}
	return dup, nil
}

// denied tells whether duplicate failed because it is not permitted here, or not there (a profile may answer either).
func denied(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) }
