package remote

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests of old are used because they give a 64-bit tracer the 64-bit registers of 32-bit code as well;
// PTRACE_GETREGSET gives the tracee's own view (arch_ptrace and task_user_regset_view in arch/x86/kernel/ptrace.c).

// readRegisters reads the general registers of a stopped thread. Its error is ErrGone.
func readRegisters(tid int, r *registers) error {
	return goneUnless(ptrace(unix.PTRACE_GETREGS, tid, 0, uintptr(unsafe.Pointer(r))))
}

func writeRegisters(tid int, r *registers) error {
	return goneUnless(ptrace(unix.PTRACE_SETREGS, tid, 0, uintptr(unsafe.Pointer(r))))
}
