package fdpass

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// Kind is what a descriptor may be that is copied, told by its link in /proc/PID/fd. Nothing but sockets and epoll sets ever is: to close the
// last copy, or any one, of another file may take as long as somebody pleases (FUSE's FLUSH waits for its server, which may be the service), and it
// is the goroutine that answers a generation's calls which would wait.
type Kind func(link string) bool

// Socket is the [Kind] of sockets.
func Socket(link string) bool {
	_, ok := proc.SocketInode(link)
	return ok
}

// Copier copies a descriptor of a process into the supervisor, if it is what is wanted. The caller owns the copy.
type Copier func(pid, fd int, what Kind) (int, error)

// CopySocket is Copy for a socket.
func CopySocket(pid, fd int) (int, error) { return Copy(pid, fd, Socket) }

// Copy copies descriptor fd of process pid into the supervisor with
// pidfd_getfd(2) (Linux 5.6; needs ptrace access to the process). The caller
// owns the copy. Never keep one of an accepted connection: while it is open the client
// does not see the service's FIN. What is something else than wanted is not copied: the error matches ErrNotPreservable.
func Copy(pid, fd int, what Kind) (int, error) {
	cannot := func(err error) (int, error) {
		return -1, fmt.Errorf("cannot copy descriptor %d of process %d: %w", fd, pid, err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot look into process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	defer unix.Close(pidfd)
	link, err := LinkOf(pid, fd, what)
	if err != nil {
		return cannot(err)
	}
	dup, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return cannot(os.NewSyscallError("pidfd_getfd", err))
	}
	if err := sameAs(dup, link); err != nil {
		return cannot(err)
	}
	return dup, nil
}

// LinkOf says what a descriptor of a process is. The error matches ErrNotPreservable where it is not what is wanted, unix.EBADF where it is not
// open, and unix.EPERM where the process may not be looked into.
func LinkOf(pid, fd int, what Kind) (string, error) {
	if stuck.Load() >= mostStuck {
		return "", errStuck
	}
	link, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", unix.EBADF
	case errors.Is(err, fs.ErrPermission):
		return "", unix.EPERM
	case err != nil:
		return "", err
	case !what(link):
		return "", fmt.Errorf("%w: it is %s", sockaddr.ErrNotPreservable, link)
	}
	return link, nil
}

// sameAs checks that a copy is what the link said a moment ago; the number may have been used again. If not, it takes the copy.
func sameAs(dup int, link string) error {
	if now, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(dup)); err == nil && now == link {
		return nil
	}
	discard(dup)
	return unix.EBADF
}

// errStuck: a program that exchanges its descriptors while they are looked at must not fill the supervisor with copies.
var errStuck = errors.New("too many copies of other files can't be closed")

// stuck are descriptors that are being closed, and may be for ever.
var stuck atomic.Int32

const mostStuck = 16

// discard closes a copy of nobody knows what, without waiting for it.
func discard(fd int) {
	stuck.Add(1)
	go func() { // ends when the file lets go
		unix.Close(fd)
		stuck.Add(-1)
	}()
}

// Denied tells whether duplicate failed because it is not permitted here, or not there (a profile may answer either).
func Denied(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) }
