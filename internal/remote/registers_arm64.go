package remote

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// registers is struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h), as
// PTRACE_GETREGSET gives it for NT_PRSTATUS.
type registers unix.PtraceRegs

// instruction is svc #0, little-endian.
var instruction = []byte{0x01, 0x00, 0x00, 0xd4}

// prepare points the thread at a system call instruction. The kernel keeps
// the number of the call that it is in elsewhere (NT_ARM_SYSTEM_CALL) and forgets it when the
// program counter is changed by a tracer: arch/arm64/kernel/signal.c compares it before it restarts.
func (r registers) prepare(at uint64, number uintptr, args [6]uintptr) registers {
	r.Pc = at
	r.Regs[8] = uint64(number)
	for i, a := range args {
		r.Regs[i] = uint64(a)
	}
	return r
}

// done tells whether the instruction at was stepped over.
func (r registers) done(at uint64) bool { return r.Pc == at+uint64(len(instruction)) }

func (r registers) result() int64 { return int64(r.Regs[0]) }

func (r registers) stack() uint64 { return r.Sp }

// rewound is where the thread goes on: as it was, but behind an interrupted call that the
// kernel won't restart, before it. The result has taken the place of the first argument,
// which the caller knows from /proc/TID/syscall.
func (r registers) rewound(first uint64) registers {
	if restarting[r.Regs[8]] && int64(r.Regs[0]) == -int64(unix.EINTR) {
		r.Regs[0] = first
		r.Pc -= uint64(len(instruction))
	}
	return r
}

// interrupted tells which system call the stop took the thread out of. A thread that is stopped on its way
// out of a call that has returned is in none.
func (r registers) interrupted() (number int64, ok bool) {
	if !restartable(int64(r.Regs[0])) {
		return -1, false
	}
	return int64(r.Regs[8]), true
}

func (r registers) longMode() bool { return r.Pstate&0x10 == 0 } // PSR_MODE32_BIT

// findInstruction returns the offset of a system call instruction, or -1. Instructions are aligned.
func findInstruction(code []byte) int {
	for i := 0; i+4 <= len(code); i += 4 {
		if bytes.Equal(code[i:i+4], instruction) {
			return i
		}
	}
	return -1
}
