package remote

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// registers is struct user_regs_struct (arch/x86/include/asm/user_64.h). 32-bit code is
// seen through it too: its registers are the lower halves of the 64-bit ones.
type registers unix.PtraceRegs

// abi tells which code the thread runs, by its code segment (__USER_CS and __USER32_CS in
// arch/x86/include/asm/segment.h). x32 code is 64-bit code, and can be made to run 64-bit calls.
func (r registers) abi() abi.ABI {
	switch r.Cs {
	case 0x33:
		return abi.AMD64
	case 0x23:
		return abi.I386
	}
	return abi.Unknown
}

// instructions are syscall, and int 0x80, which 32-bit programs have in the vdso even where they enter the kernel
// by sysenter or syscall: it is what the kernel restarts their calls by (arch/x86/entry/vdso/vdso32/system_call.S).
var instructions = map[abi.ABI][]byte{abi.AMD64: {0x0f, 0x05}, abi.I386: {0xcd, 0x80}}

// instructionSize is that of each of them.
const instructionSize = 2

// findInstruction returns the offset of a system call instruction, or -1.
func findInstruction(code abi.ABI, in []byte) int {
	instruction, ok := instructions[code]
	if !ok {
		return -1
	}
	return bytes.Index(in, instruction)
}

// prepare points the thread at a system call instruction. orig_rax is -1, so that
// the kernel does not take the thread for one that is in a call to restart.
func (r registers) prepare(at uint64, number int64, args [6]uintptr) registers {
	var a [6]uint64
	for i := range a {
		a[i] = uint64(args[i])
	}
	if r.abi() == abi.I386 {
		for i := range a {
			a[i] = uint64(uint32(a[i]))
		}
		r.Rbx, r.Rcx, r.Rdx, r.Rsi, r.Rdi, r.Rbp = a[0], a[1], a[2], a[3], a[4], a[5]
	} else {
		r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	}
	r.Rip = at
	r.Rax = uint64(number)
	r.Orig_rax = ^uint64(0)
	return r
}

// done tells whether the instruction at was stepped over.
func (r registers) done(at uint64) bool { return r.Rip == at+instructionSize }

// result is what a call returned: negative only where it is an error, for 32-bit code may be given an
// address above 2 GiB.
func (r registers) result() int64 {
	if r.abi() != abi.I386 {
		return int64(r.Rax)
	}
	if v := int32(r.Rax); v < 0 && v >= -4095 {
		return int64(v)
	}
	return int64(uint32(r.Rax))
}

func (r registers) stack() uint64 { return r.Rsp }

// number is that of the call that the thread is in, or -1. The kernel takes it for an int in either ABI (syscall_get_nr
// in arch/x86/include/asm/syscall.h).
func (r registers) number() int64 { return int64(int32(r.Orig_rax)) }

// call is the call that the thread is in.
func (r registers) call() abi.Call { return r.abi().Call(r.number(), r.first()) }

func (r registers) first() uint64 {
	if r.abi() == abi.I386 {
		return r.Rbx
	}
	return r.Rdi
}

// rewound is how the thread goes on: as it was, but out of an interrupted call that the kernel won't restart as out of
// one that it does, unless a signal with a handler comes first, however late (ERESTARTNOHAND, arch_do_signal_or_restart
// in arch/x86/kernel/signal.c).
func (r registers) rewound(w wait) registers {
	if w.interrupted && notRestarted(w.call) && r.result() == -int64(unix.EINTR) {
		r.Rax = ^uint64(restartNoHand - 1) // negative
	}
	return r
}

// beforeStop looks at a thread that is about to be stopped: there is no need to.
func beforeStop(int) proc.Syscall { return proc.Syscall{Number: -1} }

// wait tells which system call the stop took the thread out of. A thread that is stopped on its way
// out of a call that has returned is in none.
func (r registers) wait(_ int, _ proc.Syscall) wait {
	if r.number() == -1 || !restartable(r.result()) {
		return wait{}
	}
	return wait{call: r.call(), interrupted: true, first: r.first()}
}
