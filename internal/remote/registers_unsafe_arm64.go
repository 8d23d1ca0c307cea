package remote

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const ntPRStatus = 1 // NT_PRSTATUS, include/uapi/linux/elf.h

// readRegisters reads the general registers of a stopped thread. Its error is ErrForeign for
// 32-bit code, of which the kernel has fewer (task_user_regset_view in arch/arm64/kernel/ptrace.c), else ErrGone.
func readRegisters(tid int, r *registers) error {
	return registerSet(unix.PTRACE_GETREGSET, tid, r)
}

func writeRegisters(tid int, r *registers) error {
	return registerSet(unix.PTRACE_SETREGSET, tid, r)
}

func registerSet(request, tid int, r *registers) error {
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(r))}
	iov.SetLen(int(unsafe.Sizeof(*r)))
	err := goneUnless(ptrace(request, tid, ntPRStatus, uintptr(unsafe.Pointer(&iov))))
	if err == nil && iov.Len != uint64(unsafe.Sizeof(*r)) {
		return ErrForeign
	}
	return err
}
