package main

import (
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epollPwait is epoll_pwait(2) with a signal mask, which x/sys has no wrapper for.
func epollPwait(set int) error {
	var event unix.EpollEvent
	var mask uint64
	_, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&event)), 1, ^uintptr(0), uintptr(unsafe.Pointer(&mask)), 8)
	if errno != 0 {
		return errno
	}
	return nil
}

// takeSignal takes one of the blocked signals off the queue, within 10 ms (rt_sigtimedwait(2)).
func takeSignal(set *unix.Sigset_t) bool {
	limit := unix.Timespec{Nsec: 10_000_000}
	n, _, _ := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(set)), 0, uintptr(unsafe.Pointer(&limit)), 8, 0, 0)
	return n == queuedSignal
}

// ppoll is ppoll(2) with a signal mask and no limit; x/sys passes a set of glibc's size.
func ppoll(fd int) error {
	polled := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var mask uint64
	_, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&polled)), 1, 0, uintptr(unsafe.Pointer(&mask)), 8, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// epollPwait2 is epoll_pwait2(2) without a limit (Linux 5.11).
func epollPwait2(set int) error {
	var event unix.EpollEvent
	_, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(set), uintptr(unsafe.Pointer(&event)), 1, 0, 0, 8)
	return orNil(errno)
}

func orNil(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

var futexWord uint32

// futexWait sleeps until futexWake (futex(2)); a program that finds the word changed does not sleep.
func futexWait() error {
	const wait = 0
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&futexWord)), wait, 0, 0, 0, 0)
	if errno == unix.EAGAIN {
		errno = 0
	}
	return orNil(errno)
}

func futexWake() {
	const wake = 1
	atomic.StoreUint32(&futexWord, 1)
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&futexWord)), wake, 1, 0, 0, 0)
}

// signalWaiter is the thread that waits for awaitedSignal, once it has it blocked.
var signalWaiter atomic.Int32

// waitSignal sleeps until awaitedSignal comes to the thread (rt_sigtimedwait(2)).
func waitSignal() error {
	var set unix.Sigset_t
	const bits = strconv.IntSize // of a long
	set.Val[(awaitedSignal-1)/bits] = 1 << ((awaitedSignal - 1) % bits)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return err
	}
	signalWaiter.Store(int32(unix.Gettid()))
	n, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, 0, 8, 0, 0)
	if errno == 0 && n != uintptr(awaitedSignal) {
		return unix.EINVAL
	}
	return orNil(errno)
}

func semop(id, by int) error {
	op := struct {
		number uint16
		by     int16
		flags  int16
	}{by: int16(by)}
	_, _, errno := unix.Syscall6(semopNumber, uintptr(id), uintptr(unsafe.Pointer(&op)), 1, 0, 0, 0)
	return orNil(errno)
}

// installFilter asks a listener about one call of this thread, and returns the listener (seccomp_unotify(2)).
func installFilter(number int) (listener int, errno unix.Errno) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(number)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, unix.EPERM
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	return int(fd), errno
}

// restrict has this thread, or every one, killed for a getpid.
func restrict(all bool) unix.Errno {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_GETPID},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return unix.EPERM
	}
	flags := uintptr(0)
	if all {
		flags = unix.SECCOMP_FILTER_FLAG_TSYNC
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	return errno
}
