package main

import (
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
