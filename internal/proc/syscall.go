package proc

import (
	"bytes"
	"fmt"
	"math"
)

// Syscall is what a thread does in the kernel: /proc/PID/task/TID/syscall, proc_pid_syscall(5).
type Syscall struct {
	// Number is that of the system call that the thread is blocked in, in the thread's own architecture; -1 where it is in none,
	// which is also so for one that is running.
	Number  int64
	Args    [6]uint64
	Running bool // on a processor or about to be: what it does can't be told
}

// ReadSyscall reads /proc/PID/task/TID/syscall. It asks for the right to trace the thread (PTRACE_MODE_ATTACH), so for an opaque
// process the error matches os.ErrPermission; a kernel without CONFIG_HAVE_ARCH_TRACEHOOK has no such file.
func ReadSyscall(pid, tid int) (Syscall, error) {
	var buf [256]byte // nine numbers of at most 18 bytes each and one decimal
	name := threadPath(pid, tid, "/syscall")
	b, err := readStart(name, buf[:])
	if err != nil {
		return Syscall{}, err
	}
	s, err := ParseSyscall(b)
	if err != nil {
		return Syscall{}, cannotRead(name, err)
	}
	return s, nil
}

// ParseSyscall parses the content of a syscall file: "running", or "-1 SP PC" for a thread that is blocked outside of a
// call, or the call's number in decimal, six arguments, SP and PC in hexadecimal (fs/proc/base.c, proc_pid_syscall).
func ParseSyscall(b []byte) (Syscall, error) {
	bad := func() (Syscall, error) { return Syscall{}, fmt.Errorf("%w: system call %q", ErrFormat, string(b)) }
	first, rest := word(b)
	if string(first) == "running" && len(rest) == 0 {
		return Syscall{Number: -1, Running: true}, nil
	}
	if string(first) == "-1" {
		return Syscall{Number: -1}, nil
	}
	number, tail, ok := decimal(first)
	if !ok || len(tail) != 0 || number > math.MaxInt32 {
		return bad()
	}
	s := Syscall{Number: int64(number)}
	for i := range s.Args {
		var f []byte
		f, rest = word(rest)
		digits, ok := bytes.CutPrefix(f, []byte("0x"))
		if !ok {
			return bad()
		}
		if s.Args[i], tail, ok = hexadecimal(digits); !ok || len(tail) != 0 {
			return bad()
		}
	}
	return s, nil
}
