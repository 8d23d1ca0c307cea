package notify

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelSigaction is the kernel's struct sigaction, as rt_sigaction(2) takes
// it on amd64 and arm64. It is not libc's.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	sigDefault uintptr = 0
	sigIgnore  uintptr = 1
)

// setDisposition goes below os/signal: the launcher is about to become another
// program, and the Go runtime's own handlers must not decide what it inherits.
func setDisposition(sig unix.Signal, handler uintptr) unix.Errno {
	act := kernelSigaction{handler: handler}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, unsafe.Sizeof(act.mask), 0, 0)
	return errno
}
