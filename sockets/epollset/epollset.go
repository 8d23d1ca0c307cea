package epollset

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// Entry is an entry of an epoll set: target is the number under which
// the socket was added (epoll_ctl(2): an entry is a number and an open file
// description).
type Entry struct {
	PID    int
	Set    int // descriptor of the epoll set in pid
	Target int
	Inode  uint64
	Events uint32 // as the set has them; see Requested
	Data   uint64 // what it wants to be told with it
}

// Entries finds the entries of the sockets in the epoll sets of the
// processes. Processes that can't be looked into are passed over.
func Entries(pids []int, inodes map[uint64]struct{}) []Entry {
	var found []Entry
	for _, pid := range pids {
		descriptors, err := proc.Descriptors(pid)
		if err != nil {
			continue
		}
		for _, d := range descriptors {
			if proc.IsEpoll(d.Link) {
				found = append(found, InSet(pid, d.Number, inodes)...)
			}
		}
	}
	return found
}

// InSet finds them in one set.
func InSet(pid, set int, inodes map[uint64]struct{}) (found []Entry) {
	info, err := proc.ReadFDInfo(pid, set)
	if err != nil {
		return nil
	}
	for _, target := range info.Targets {
		if _, ok := inodes[target.Inode]; ok {
			found = append(found, Entry{PID: pid, Set: set, Target: target.FD, Inode: target.Inode,
				Events: target.Events, Data: target.Data})
		}
	}
	return found
}

// Silent tells whether the entry asks for no event, be it that it was silenced or that it has told its one (EPOLLONESHOT).
func (r Entry) Silent() bool { return r.Events&(unix.EPOLLIN|unix.EPOLLRDNORM) == 0 }

// Edit changes entries of epoll sets that are not the supervisor's.
//
// The kernel looks an entry up by the open file description and by the number
// that the *caller* of epoll_ctl has for it, and does not ask which process the
// caller is (ep_find in fs/eventpoll.c). So it is enough to have a duplicate of
// the epoll set, and the socket at the same number as in the service, whatever
// the service has there by now. The numbers are made on a thread with a descriptor
// table of its own, which ends with the thread.
type Edit struct {
	Entries []Entry
	// Sockets are descriptors of the supervisor's for the sockets, by inode. They stay the caller's.
	Sockets map[uint64]int
	// Successors are descriptors of the supervisor's that are to be registered at the numbers of these entries as the sockets were; none where
	// nil. They stay the caller's.
	Successors map[Entry]int
	// Remove takes the entries out altogether.
	Remove bool
	// Restore gives silenced entries back what the program had asked for.
	Restore bool
	// Overrule says that an entry that a successor has at the number already is changed to what is to be registered.
	Overrule bool
	// Datagrams says that the entries are of datagram sockets, by which the program may yet send: it goes on to be told
	// when it can.
	Datagrams bool
	// CopyOf copies an epoll set of a process.
	CopyOf fdpass.Copier
}

// CloseSockets closes them, where they are copies that were made for the edit.
func (e Edit) CloseSockets() {
	for _, fd := range e.Sockets {
		unix.Close(fd)
	}
}

// setAt is an epoll set of a process.
type setAt struct{ pid, fd int }

// Apply makes the entries tell nobody of anything any more, and swallow (EPOLLEXCLUSIVE) nothing. They stay where they
// are, unless they are to be removed, for the program finds them when it changes or removes them; what it then asks for holds again.
func (e Edit) Apply() error {
	if len(e.Entries) == 0 {
		return nil
	}
	sets := make(map[setAt]int)
	defer func() {
		for _, fd := range sets {
			unix.Close(fd)
		}
	}()
	// On this goroutine: CopyOf may need a process that it has frozen.
	for _, r := range e.Entries {
		at := setAt{r.PID, r.Set}
		if _, ok := sets[at]; ok {
			continue
		}
		fd, err := e.CopyOf(r.PID, r.Set, proc.IsEpoll)
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
func (e Edit) all(sets map[setAt]int) error {
	// What must not be overwritten moves above every number that is made below.
	above := 0
	for _, r := range e.Entries {
		above = max(above, r.Target+1)
	}
	move := func(fd int) (int, error) {
		moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, above)
		return moved, os.NewSyscallError("fcntl", err)
	}
	sockets, moved, successors := make(map[uint64]int), make(map[setAt]int), make(map[int]int)
	var err error
	for inode, fd := range e.Sockets {
		if sockets[inode], err = move(fd); err != nil {
			return err
		}
	}
	for at, fd := range sets {
		if moved[at], err = move(fd); err != nil {
			return err
		}
	}
	for _, fd := range e.Successors {
		if successors[fd], err = move(fd); err != nil {
			return err
		}
	}
	var failed error
	for _, r := range e.Entries {
		set, ok := moved[setAt{r.PID, r.Set}]
		if !ok {
			continue
		}
		switch socket, ok := sockets[r.Inode]; {
		case ok && e.Restore:
			failed = errors.Join(failed, r.restore(set, socket))
		case ok:
			failed = errors.Join(failed, r.silence(set, socket, e.Datagrams, e.Remove))
		default:
			failed = errors.Join(failed, fmt.Errorf("nobody has the socket of descriptor %d in epoll set %d of process %d any more", r.Target, r.Set, r.PID))
		}
		if fd, ok := e.Successors[r]; ok {
			failed = errors.Join(failed, r.add(set, successors[fd], e.Overrule))
		}
	}
	return failed
}

// silence changes one entry. It makes the number of the entry in the caller's table.
func (r Entry) silence(set, socket int, sends, remove bool) error {
	if err := unix.Dup3(socket, r.Target, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	asked := r.Requested()
	nothing := r.event(silencedFrom(asked))
	if sends && asked&unix.EPOLLET == 0 {
		// It asks for this because it is waiting to send. Edge-triggered entries ask for it always, and it would be
		// told of every datagram that its successor has sent.
		nothing.Events |= asked & (unix.EPOLLOUT | unix.EPOLLWRNORM | unix.EPOLLONESHOT)
	}
	err := unix.Errno(0)
	if remove {
		err = errnoOf(unix.EpollCtl(set, unix.EPOLL_CTL_DEL, r.Target, nil))
	} else {
		err = change(set, r.Target, nothing)
	}
	if err == 0 || err == unix.ENOENT || err == unix.EEXIST {
		return nil // ENOENT: the program has taken it out meanwhile
	}
	return fmt.Errorf("cannot silence descriptor %d in epoll set %d of process %d: %w", r.Target, r.Set, r.PID, os.NewSyscallError("epoll_ctl", err))
}

// restore gives a silenced entry back what the program had asked for. The kernel then looks whether that is the case already,
// and tells the program (ep_modify in fs/eventpoll.c). It makes the number of the entry in the caller's table.
func (r Entry) restore(set, socket int) error {
	if err := unix.Dup3(socket, r.Target, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	err := change(set, r.Target, r.event(r.Requested()))
	if err == 0 || err == unix.ENOENT || err == unix.EEXIST {
		return nil // likewise
	}
	return fmt.Errorf("cannot restore descriptor %d in epoll set %d of process %d: %w", r.Target, r.Set, r.PID, os.NewSyscallError("epoll_ctl", err))
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
func (r Entry) event(events uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: events, Fd: int32(uint32(r.Data)), Pad: int32(uint32(r.Data >> 32))}
}

// add registers another socket as the one was.
func (r Entry) add(set, successor int, overrule bool) error {
	if err := unix.Dup3(successor, r.Target, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	event := r.event(r.Events)
	err := errnoOf(unix.EpollCtl(set, unix.EPOLL_CTL_ADD, r.Target, &event))
	if err == unix.EEXIST && overrule {
		err = change(set, r.Target, event)
	}
	if err != 0 && err != unix.EEXIST {
		return fmt.Errorf("cannot put another socket into epoll set %d of process %d: %w", r.Set, r.PID, os.NewSyscallError("epoll_ctl", err))
	}
	return nil
}
