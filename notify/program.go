package notify

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Program is a classic BPF program that decides on system calls, as
// seccomp(2) loads it. It is data only: making one changes nothing.
type Program []unix.SockFilter

const (
	instructionSize = 8    // struct sock_filter in include/uapi/linux/filter.h
	maxInstructions = 4096 // BPF_MAXINSNS in include/uapi/linux/bpf_common.h
)

// MarshalBinary writes the program as the kernel has it in memory: struct
// sock_filter after struct sock_filter, in the machine's byte order. It is for
// another process of the same machine, not for storing.
func (p Program) MarshalBinary() ([]byte, error) {
	if err := checkInstructions(len(p)); err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(p)*instructionSize)
	for _, in := range p {
		b = binary.NativeEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.NativeEndian.AppendUint32(b, in.K)
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary or libseccomp's export wrote. It
// checks the length alone: whether the instructions make sense is for the
// kernel to say (bpf_check_classic in net/core/filter.c and
// seccomp_check_filter in kernel/seccomp.c). After an error p is as it was.
func (p *Program) UnmarshalBinary(b []byte) error {
	if len(b)%instructionSize != 0 {
		return fmt.Errorf("cannot read a filter program: %d bytes are not whole instructions", len(b))
	}
	if err := checkInstructions(len(b) / instructionSize); err != nil {
		return err
	}
	read := make(Program, 0, len(b)/instructionSize)
	for ; len(b) > 0; b = b[instructionSize:] {
		read = append(read, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(b),
			Jt:   b[2],
			Jf:   b[3],
			K:    binary.NativeEndian.Uint32(b[4:]),
		})
	}
	*p = read
	return nil
}

func checkInstructions(n int) error {
	if n < 1 || n > maxInstructions {
		return fmt.Errorf("a filter program has 1 to %d instructions, not %d", maxInstructions, n)
	}
	return nil
}

// String is the program in assembler, one numbered instruction a line, for a
// debug log. Jumps count from the next instruction. What x/net does not know
// is shown as numbers.
func (p Program) String() string {
	var s strings.Builder
	for i, in := range p {
		raw := bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
		if known, ok := raw.Disassemble().(fmt.Stringer); ok {
			fmt.Fprintf(&s, "%4d: %s\n", i, known)
		} else {
			fmt.Fprintf(&s, "%4d: .code %#04x, %d, %d, %#x\n", i, in.Code, in.Jt, in.Jf, in.K)
		}
	}
	return s.String()
}
