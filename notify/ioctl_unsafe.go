package notify

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlRecv is the one ioctl of a listener that may sleep:
// the scheduler must know.
func ioctlRecv(fd int, req *rawRequest) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(req)))
	return errno
}

// The others never sleep, and they are on the path of every notified call:
// telling the scheduler would cost more than the call.

func ioctlSend(fd int, reply *rawReply) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(reply)))
	return errno
}

func ioctlIsValid(fd int, id *uint64) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), ioctlIDValid, uintptr(unsafe.Pointer(id)))
	return errno
}

// ADDFD waits until the target has installed the descriptor itself, hence the
// scheduler is told (seccomp_notify_addfd in kernel/seccomp.c).
func ioctlPlant(fd int, add *rawAddFD) (int, unix.Errno) {
	at, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlAddFD, uintptr(unsafe.Pointer(add)))
	return int(at), errno
}

func ioctlFlags(fd int, flags uint64) unix.Errno {
	// The flags are the argument itself, not a pointer to it
	// (seccomp_notify_set_flags in kernel/seccomp.c).
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), ioctlSetFlags, uintptr(flags))
	return errno
}

// seccompLoad installs the program on the calling thread and returns the
// listener's descriptor.
func seccompLoad(program Program, flags uintptr) (int, unix.Errno) {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	return int(fd), errno
}

func seccompActionAvailable(action uint32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return errno
}

func seccompSizes() (rawSizes, unix.Errno) {
	var sizes rawSizes
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	return sizes, errno
}
