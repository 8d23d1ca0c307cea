package remote

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// registers is struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h), as
// PTRACE_GETREGSET gives it for NT_PRSTATUS.
type registers unix.PtraceRegs

func (r registers) abi() abi.ABI {
	const mode32 = 0x10 // PSR_MODE32_BIT
	if r.Pstate&mode32 != 0 {
		return abi.Unknown
	}
	return abi.ARM64
}

// instruction is svc #0, little-endian.
var instruction = []byte{0x01, 0x00, 0x00, 0xd4}

// findInstruction returns the offset of a system call instruction, or -1. Instructions are aligned.
func findInstruction(code abi.ABI, in []byte) int {
	if code != abi.ARM64 {
		return -1
	}
	for i := 0; i+4 <= len(in); i += 4 {
		if bytes.Equal(in[i:i+4], instruction) {
			return i
		}
	}
	return -1
}

// prepare points the thread at a system call instruction. The kernel keeps
// the number of the call that it is in elsewhere (NT_ARM_SYSTEM_CALL) and forgets it when the
// program counter is changed by a tracer: arch/arm64/kernel/signal.c compares it before it restarts.
func (r registers) prepare(at uint64, number int64, args [6]uintptr) registers {
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

// call is the call whose number is in the register for it.
func (r registers) call() abi.Call { return r.abi().Call(int64(int32(r.Regs[8])), 0) }

// rewound is where the thread goes on: as it was, but behind an interrupted call that the
// kernel won't restart, before it.
func (r registers) rewound(w wait) registers {
	if w.interrupted && notRestarted(w.call) && r.result() == -int64(unix.EINTR) {
		r.Regs[0] = w.first
		r.Pc -= uint64(len(instruction))
	}
	return r
}

// wait tells which system call the stop took the thread out of.
//
// Before a tracer sees the thread the kernel has wound it back, if it is going to restart the call, and has forgotten that there
// was one (do_signal in arch/arm64/kernel/signal.c). So it is a thread that is about to make a call; or
// one that is just behind a call that says EINTR.
func (r registers) wait(tid int, before proc.Syscall) wait {
	return r.waitIn(before, func(at uint64) bool {
		code := make([]byte, len(instruction))
		return proc.ReadMemory(tid, at, code) == nil && findInstruction(abi.ARM64, code) == 0
	})
}

// beforeStop looks where a thread is that is about to be stopped: the result of a call takes the place of its first argument, which
// is not to be had from a stopped thread. A thread that enters its call after the look sees EINTR.
func beforeStop(tid int) proc.Syscall {
	call, err := proc.ReadSyscall(tid, tid)
	if err != nil {
		return proc.Syscall{Number: -1}
	}
	return call
}

// waitIn is wait on what is known of the thread; instructionAt tells whether there is a system call instruction at an address.
func (r registers) waitIn(before proc.Syscall, instructionAt func(uint64) bool) wait {
	behind := r.Pc - uint64(len(instruction))
	switch {
	case r.abi() != abi.ARM64:
	case instructionAt(r.Pc):
		return wait{call: r.call(), interrupted: true, first: r.Regs[0]}
	case r.result() == -int64(unix.EINTR) && instructionAt(behind):
		// A call leaves its other arguments as they are.
		if before.Number == int64(int32(r.Regs[8])) && slices.Equal(before.Args[1:], r.Regs[1:6]) {
			return wait{call: r.call(), interrupted: true, first: before.Args[0]}
		}
	}
	return wait{}
}
