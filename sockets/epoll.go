package sockets

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
	"huptime/sockets/fdpass"
	"huptime/sockets/sockaddr"
)

// registration is an entry of an epoll set: target is the number under which
// the socket was added (epoll_ctl(2): an entry is a number and an open file
// description).
type registration struct {
	pid    int
	set    int // descriptor of the epoll set in pid
	target int
	inode  uint64
	events uint32 // as the set has them; see asked
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
			if proc.IsEpoll(d.Link) {
				found = append(found, entriesOf(pid, d.Number, inodes)...)
			}
		}
	}
	return found
}

// entriesOf finds them in one set.
func entriesOf(pid, set int, inodes map[uint64]struct{}) (found []registration) {
	info, err := proc.ReadFDInfo(pid, set)
	if err != nil {
		return nil
	}
	for _, target := range info.Targets {
		if _, ok := inodes[target.Inode]; ok {
			found = append(found, registration{pid: pid, set: set, target: target.FD, inode: target.Inode,
				events: target.Events, data: target.Data})
		}
	}
	return found
}

// silent tells whether the entry asks for no event, be it that it was silenced or that it has told its one (EPOLLONESHOT).
func (r registration) silent() bool { return r.events&(unix.EPOLLIN|unix.EPOLLRDNORM) == 0 }

// edit changes entries of epoll sets that are not the supervisor's.
//
// The kernel looks an entry up by the open file description and by the number
// that the *caller* of epoll_ctl has for it, and does not ask which process the
// caller is (ep_find in fs/eventpoll.c). So it is enough to have a duplicate of
// the epoll set, and the socket at the same number as in the service, whatever
// the service has there by now. The numbers are made on a thread with a descriptor
// table of its own, which ends with the thread.
type edit struct {
	entries []registration
	// sockets are descriptors of the supervisor's for the sockets, by inode. They stay the caller's.
	sockets map[uint64]int
	// successors are descriptors of the supervisor's that are to be registered at the numbers of these entries as the sockets were; none where
	// nil. They stay the caller's.
	successors map[registration]int
	// remove takes the entries out altogether.
	remove bool
	// restore gives silenced entries back what the program had asked for.
	restore bool
	// overrule says that an entry that a successor has at the number already is changed to what is to be registered.
	overrule bool
	// datagrams says that the entries are of datagram sockets, by which the program may yet send: it goes on to be told
	// when it can.
	datagrams bool
	// copyOf copies an epoll set of a process.
	copyOf fdpass.Copier
}

// closeSockets closes them, where they are copies that were made for the edit.
func (e edit) closeSockets() {
	for _, fd := range e.sockets {
		unix.Close(fd)
	}
}

// setAt is an epoll set of a process.
type setAt struct{ pid, fd int }

// do makes the entries tell nobody of anything any more, and swallow (EPOLLEXCLUSIVE) nothing. They stay where they
// are, unless they are to be removed, for the program finds them when it changes or removes them; what it then asks for holds again.
func (e edit) do() error {
	if len(e.entries) == 0 {
		return nil
	}
	sets := make(map[setAt]int)
	defer func() {
		for _, fd := range sets {
			unix.Close(fd)
		}
	}()
	// On this goroutine: copyOf may need a process that it has frozen.
	for _, r := range e.entries {
		at := setAt{r.pid, r.set}
		if _, ok := sets[at]; ok {
			continue
		}
		fd, err := e.copyOf(r.pid, r.set, proc.IsEpoll)
		switch {
		case err == nil:
			sets[at] = fd
		case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EBADF), errors.Is(err, os.ErrNotExist), errors.Is(err, sockaddr.ErrNotPreservable):
			// the process, or the set, is gone
		default:
			return err
		}
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, and its descriptor table, end with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FILES); err != nil {
			result <- os.NewSyscallError("unshare", err)
			return
		}
		result <- e.all(sets)
	}()
	return <-result
}

// all runs on a thread whose descriptor table is its own.
func (e edit) all(sets map[setAt]int) error {
	// What must not be overwritten moves above every number that is made below.
	above := 0
	for _, r := range e.entries {
		above = max(above, r.target+1)
	}
	move := func(fd int) (int, error) {
		moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, above)
		return moved, os.NewSyscallError("fcntl", err)
	}
	sockets, moved, successors := make(map[uint64]int), make(map[setAt]int), make(map[int]int)
	var err error
	for inode, fd := range e.sockets {
		if sockets[inode], err = move(fd); err != nil {
			return err
		}
	}
	for at, fd := range sets {
		if moved[at], err = move(fd); err != nil {
			return err
		}
	}
	for _, fd := range e.successors {
		if successors[fd], err = move(fd); err != nil {
			return err
		}
	}
	var failed error
	for _, r := range e.entries {
		set, ok := moved[setAt{r.pid, r.set}]
		if !ok {
			continue
		}
		switch socket, ok := sockets[r.inode]; {
		case ok && e.restore:
			failed = errors.Join(failed, r.restore(set, socket))
		case ok:
			failed = errors.Join(failed, r.silence(set, socket, e.datagrams, e.remove))
		default:
			failed = errors.Join(failed, fmt.Errorf("nobody has the socket of descriptor %d in epoll set %d of process %d any more", r.target, r.set, r.pid))
		}
		if fd, ok := e.successors[r]; ok {
			failed = errors.Join(failed, r.add(set, successors[fd], e.overrule))
		}
	}
	return failed
}

// silence changes one entry. It makes the number of the entry in the caller's table.
func (r registration) silence(set, socket int, sends, remove bool) error {
	if err := unix.Dup3(socket, r.target, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	asked := r.asked()
	nothing := r.event(silencedFrom(asked))
	if sends && asked&unix.EPOLLET == 0 {
		// It asks for this because it is waiting to send. Edge-triggered entries ask for it always, and it would be
		// told of every datagram that its successor has sent.
		nothing.Events |= asked & (unix.EPOLLOUT | unix.EPOLLWRNORM | unix.EPOLLONESHOT)
	}
	err := unix.Errno(0)
	if remove {
		err = errnoOf(unix.EpollCtl(set, unix.EPOLL_CTL_DEL, r.target, nil))
	} else {
		err = change(set, r.target, nothing)
	}
	if err == 0 || err == unix.ENOENT || err == unix.EEXIST {
		return nil // ENOENT: the program has taken it out meanwhile
	}
	return fmt.Errorf("cannot silence descriptor %d in epoll set %d of process %d: %w", r.target, r.set, r.pid, os.NewSyscallError("epoll_ctl", err))
}

// restore gives a silenced entry back what the program had asked for. The kernel then looks whether that is the case already,
// and tells the program (ep_modify in fs/eventpoll.c). It makes the number of the entry in the caller's table.
func (r registration) restore(set, socket int) error {
	if err := unix.Dup3(socket, r.target, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	err := change(set, r.target, r.event(r.asked()))
	if err == 0 || err == unix.ENOENT || err == unix.EEXIST {
		return nil // likewise
	}
	return fmt.Errorf("cannot restore descriptor %d in epoll set %d of process %d: %w", r.target, r.set, r.pid, os.NewSyscallError("epoll_ctl", err))
}

// change changes an entry, also one that is or becomes an exclusive one, which can only be made anew (epoll_ctl(2)).
func change(set, target int, event unix.EpollEvent) unix.Errno {
	err := errnoOf(unix.EpollCtl(set, unix.EPOLL_CTL_MOD, target, &event))
	if err != unix.EINVAL {
		return err
	}
	if err = errnoOf(unix.EpollCtl(set, unix.EPOLL_CTL_DEL, target, nil)); err != 0 {
		return err
	}
	return errnoOf(unix.EpollCtl(set, unix.EPOLL_CTL_ADD, target, &event))
}

// errnoOf is the number that a system call has failed with, 0 where it has not.
func errnoOf(err error) unix.Errno {
	errno, _ := err.(unix.Errno)
	return errno
}

// event is the entry's data with other events.
func (r registration) event(events uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: events, Fd: int32(uint32(r.data)), Pad: int32(uint32(r.data >> 32))}
}

// add registers another socket as the one was.
func (r registration) add(set, successor int, overrule bool) error {
	if err := unix.Dup3(successor, r.target, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	event := r.event(r.events)
	err := errnoOf(unix.EpollCtl(set, unix.EPOLL_CTL_ADD, r.target, &event))
	if err == unix.EEXIST && overrule {
		err = change(set, r.target, event)
	}
	if err != 0 && err != unix.EEXIST {
		return fmt.Errorf("cannot put another socket into epoll set %d of process %d: %w", r.set, r.pid, os.NewSyscallError("epoll_ctl", err))
	}
	return nil
}
