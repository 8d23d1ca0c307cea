package sockets

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
)

// registration is an entry of an epoll set: target is the number under which
// the socket was added (epoll_ctl(2): an entry is a number and an open file
// description).
type registration struct {
	pid    int
	set    int // descriptor of the epoll set in pid
	target int
	inode  uint64
	events uint32 // what the program asked for
	data   uint64 // what it wants to be told with it
}

// registrations finds the entries of the sockets in the epoll sets of the
// processes. Processes that can't be looked into are passed over.
func registrations(pids []int, inodes map[uint64]struct{}) []registration {
	var found []registration
	for _, pid := range pids {
		descriptors, err := proc.Descriptors(pid)
		if err != nil {
			continue
		}
		for _, d := range descriptors {
			if !proc.IsEpoll(d.Link) {
				continue
			}
			info, err := proc.ReadFDInfo(pid, d.Number)
			if err != nil {
				continue
			}
			for _, target := range info.Targets {
				if _, ok := inodes[target.Inode]; ok {
					found = append(found, registration{pid: pid, set: d.Number, target: target.FD, inode: target.Inode,
						events: target.Events, data: target.Data})
				}
			}
		}
	}
	return found
}

// unregister takes the entries out of their epoll sets. sources are descriptors of the
// supervisor's for the sockets, by inode.
//
// The kernel looks an entry up by the open file description and by the number
// that the *caller* of epoll_ctl has for it, and does not ask which process the
// caller is (ep_find in fs/eventpoll.c). So it is enough to have a duplicate of
// the epoll set, and the socket at the same number as in the service. The
// numbers are made on a thread with a descriptor table of its own, which ends
// with the thread.
func unregister(entries []registration, sources map[uint64]int) error {
	if len(entries) == 0 {
		return nil
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, and its descriptor table, end with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FILES); err != nil {
			result <- os.NewSyscallError("unshare", err)
			return
		}
		result <- removeAll(entries, sources)
	}()
	return <-result
}

// removeAll runs on a thread whose descriptor table is its own.
func removeAll(entries []registration, sources map[uint64]int) error {
	// What must not be overwritten moves above every number that is made below.
	above := 0
	for _, e := range entries {
		above = max(above, e.target+1)
	}
	moved := make(map[uint64]int, len(sources))
	for inode, source := range sources {
		fd, err := unix.FcntlInt(uintptr(source), unix.F_DUPFD_CLOEXEC, above)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		moved[inode] = fd
	}
	var failed error
	for _, e := range entries {
		if source, ok := moved[e.inode]; ok {
			failed = errors.Join(failed, e.remove(source, above))
		}
	}
	return failed
}

func (e registration) remove(source, above int) error {
	low, err := duplicate(e.pid, e.set)
	if err != nil {
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) {
			return nil // the process, or the set, is gone
		}
		return err
	}
	set, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, above)
	unix.Close(low)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	defer unix.Close(set)
	if err := unix.Dup3(source, e.target, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	err = unix.EpollCtl(set, unix.EPOLL_CTL_DEL, e.target, nil)
	if err != nil && err != unix.ENOENT && err != unix.EBADF {
		return fmt.Errorf("cannot take descriptor %d out of epoll set %d of process %d: %w",
			e.target, e.set, e.pid, os.NewSyscallError("epoll_ctl", err))
	}
	return nil
}
