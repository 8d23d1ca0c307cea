package remote

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// registers is struct user_regs_struct (arch/x86/include/asm/user_64.h), as
// PTRACE_GETREGSET gives it for NT_PRSTATUS.
type registers unix.PtraceRegs

// instruction is syscall.
var instruction = []byte{0x0f, 0x05}

// arm64 has no plain epoll_wait.
func init() { restarting[unix.SYS_EPOLL_WAIT] = true }

// prepare points the thread at a system call instruction. orig_rax is -1, so that
// the kernel does not take the thread for one that is in a call to restart.
func (r registers) prepare(at uint64, number uintptr, args [6]uintptr) registers {
	r.Rip = at
	r.Rax = uint64(number)
	r.Orig_rax = ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx = uint64(args[0]), uint64(args[1]), uint64(args[2])
	r.R10, r.R8, r.R9 = uint64(args[3]), uint64(args[4]), uint64(args[5])
	return r
}

// done tells whether the instruction at was stepped over.
func (r registers) done(at uint64) bool { return r.Rip == at+uint64(len(instruction)) }

func (r registers) result() int64 { return int64(r.Rax) }

func (r registers) stack() uint64 { return r.Rsp }

// rewound is where the thread goes on: as it was, but behind an interrupted call that the
// kernel won't restart, before it.
func (r registers) rewound(_ uint64) registers {
	if r.Orig_rax != ^uint64(0) && restarting[r.Orig_rax] && int64(r.Rax) == -int64(unix.EINTR) {
		r.Rax = r.Orig_rax
		r.Rip -= uint64(len(instruction))
		// It is not in a call any more, so that nothing else restarts it as well.
		r.Orig_rax = ^uint64(0)
	}
	return r
}

// interrupted tells which system call the stop took the thread out of. A thread that is stopped on its way
// out of a call that has returned is in none.
func (r registers) interrupted() (number int64, ok bool) {
	if r.Orig_rax == ^uint64(0) || !restartable(int64(r.Rax)) {
		return -1, false
	}
	return int64(r.Orig_rax), true
}

// longMode is the code segment of 64-bit programs (__USER_CS); 32-bit code of a 64-bit process
// (x32 is 64-bit code) runs in another.
func (r registers) longMode() bool { return r.Cs == 0x33 }

// findInstruction returns the offset of a system call instruction, or -1.
func findInstruction(code []byte) int { return bytes.Index(code, instruction) }
