package remote

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// x/sys has wrappers for a part of ptrace(2), with Unix errors for all
// architectures alike; the requests that came with PTRACE_SEIZE are not among them.

func ptrace(request, tid int, addr, data uintptr) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	return errno
}

// goneUnless gives the one reason that a request has to fail for a thread that is stopped: it was killed.
func goneUnless(errno unix.Errno) error {
	if errno != 0 {
		return ErrGone
	}
	return nil
}

// signalMask reads or writes the set of blocked signals (Linux 3.11).
func signalMask(request, tid int, mask *uint64) unix.Errno {
	return ptrace(request, tid, unsafe.Sizeof(*mask), uintptr(unsafe.Pointer(mask)))
}

// waitStopped looks whether the thread has stopped, without waiting. It takes no exit.
func waitStopped(tid int) (status int32, stopped bool, errno unix.Errno) {
	var info unix.Siginfo
	const options = unix.WSTOPPED | unix.WNOHANG | unix.WALL
	_, _, errno = unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid), uintptr(unsafe.Pointer(&info)), options, 0, 0)
	if errno != 0 || info.Signo == 0 {
		return 0, false, errno
	}
	return childStatus(&info), true, 0
}

// takeExit reaps a traced thread that has ended; it does not wait.
func takeExit(tid int) {
	var info unix.Siginfo
	for {
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid), uintptr(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WALL, 0, 0)
		if errno != unix.EINTR {
			return
		}
	}
}

// childInfo is the part of siginfo_t that waitid(2) fills in for a child:
// three ints, then, on 64-bit machines, a gap before the union.
type childInfo struct {
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	status             int32
}

func childStatus(info *unix.Siginfo) int32 {
	return (*childInfo)(unsafe.Pointer(info)).status
}
