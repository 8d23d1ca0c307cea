package sockets

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
)

// fetch copies descriptor fd of a process into the supervisor, if it is what is wanted, without
// pidfd_getfd(2), which the default seccomp profiles of Docker and containerd deny: a
// socket is planted in the process, and the process is made to send the
// descriptor over it (unix(7), SCM_RIGHTS). The caller owns the copy.
func (k *Knocks) fetch(pid, fd int, what fdpass.Kind) (int, error) {
	copied := -1
	err := remote.With(pid, freezeLimit, func(f *remote.Frozen) (err error) {
		copied, err = k.fetchFrom(f, pid, fd, what)
		return err
	})
	return copied, err
}

// fetchFrom is fetch from a process that is frozen already.
func (k *Knocks) fetchFrom(f *remote.Frozen, pid, fd int, what fdpass.Kind) (int, error) {
	link, err := fdpass.LinkOf(pid, fd, what)
	if err != nil {
		return -1, fmt.Errorf("cannot copy descriptor %d of process %d: %w", fd, pid, err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	planted := -1
	_, err = k.knock(f, func(_ int, r *notify.Request) notify.Reply {
		at, err := r.PlantAnew(pair[1])
		if err != nil {
			return notify.Fail(unix.EBADF)
		}
		planted = at
		return notify.Return(0)
	})
	if err != nil {
		return -1, fmt.Errorf("cannot plant a socket in process %d: %w", pid, err)
	}
	if planted < 0 {
		return -1, fmt.Errorf("process %d is of no generation", pid)
	}
	defer f.Call(abi.Close, uintptr(planted))
	if err := fdpass.Send(f, planted, fd); err != nil {
		return -1, fmt.Errorf("cannot copy descriptor %d of process %d: %w", fd, pid, err)
	}
	return fdpass.Receive(pair[0], link)
}
