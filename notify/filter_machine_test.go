package notify

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What a filter may say (SECCOMP_RET_* in include/uapi/linux/seccomp.h).
const (
	allow = uint32(unix.SECCOMP_RET_ALLOW)
	ask   = uint32(unix.SECCOMP_RET_USER_NOTIF)
	skip  = uint32(unix.SECCOMP_RET_ERRNO) // with errno 0 in its low half
)

var verdicts = map[uint32]string{allow: "allow", ask: "notify", skip: "skip with success"}

// systemCall is struct seccomp_data of include/uapi/linux/seccomp.h.
type systemCall struct {
	number      uint32
	arch        uint32
	instruction uint64
	args        [6]uint64
}

// packet lays the call out for x/net's virtual machine, which loads words in
// network order while the kernel loads words of the machine. Both machines
// that huptime runs on have the lower half of 64 bits first.
func (c systemCall) packet() []byte {
	b := binary.BigEndian.AppendUint32(nil, c.number)
	b = binary.BigEndian.AppendUint32(b, c.arch)
	for _, v := range append([]uint64{c.instruction}, c.args[:]...) {
		b = binary.BigEndian.AppendUint32(b, uint32(v))
		b = binary.BigEndian.AppendUint32(b, uint32(v>>32))
	}
	return b
}

// machine runs a program in x/net's virtual machine: not the kernel's, and not
// written for these tests either.
type machine struct{ vm *bpf.VM }

func newMachine(t testing.TB, p Program) machine {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(p))
	for i, in := range p {
		raw[i] = bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	decoded, all := bpf.Disassemble(raw)
	if !all {
		t.Fatalf("the virtual machine does not know all instructions of\n%v", p)
	}
	vm, err := bpf.NewVM(decoded)
	if err != nil {
		t.Fatalf("%v in\n%v", err, p)
	}
	return machine{vm}
}

func (m machine) run(t testing.TB, packet []byte) uint32 {
	t.Helper()
	verdict, err := m.vm.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

func (m machine) verdict(t testing.TB, c systemCall) uint32 {
	t.Helper()
	return m.run(t, c.packet())
}

// byNumber decides as seccomp_is_const_allow of kernel/seccomp.c does when it
// fills the action cache: on the number and the architecture alone, with the
// instructions that it knows. ok is false where that is not enough; steps are
// the instructions that were run.
func byNumber(p Program, arch, number uint32) (verdict uint32, steps int, ok bool) {
	var a uint32
	for pc := 0; pc < len(p); pc++ {
		in := p[pc]
		steps++
		jump := func(condition bool) {
			if condition {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch in.K {
			case 0:
				a = number
			case 4:
				a = arch
			default:
				return 0, steps, false
			}
		case unix.BPF_RET | unix.BPF_K:
			return in.K, steps, true
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(a > in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&in.K != 0)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		default:
			return 0, steps, false
		}
	}
	return 0, steps, false
}
