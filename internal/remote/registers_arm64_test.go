package remote

import (
	"testing"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// What a call is set up with, and that nothing else of the thread changes.
func TestRegistersPrepare(t *testing.T) {
	t.Parallel()
	before := registers{Sp: 0x7ffff000, Pc: 0x401000, Pstate: 0x60001000}
	for i := range before.Regs {
		before.Regs[i] = uint64(1000 + i)
	}
	const at = 0xffff1234
	want := before
	want.Pc, want.Regs[8] = at, 201
	for i, a := range []uint64{101, 1 << 40, ^uint64(0), 104, 105, 106} {
		want.Regs[i] = a
	}
	if got := before.prepare(at, 201, [6]uintptr{101, 1 << 40, ^uintptr(0), 104, 105, 106}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if want.done(at) || !(registers{Pc: at + 4}).done(at) {
		t.Error("done is behind the instruction")
	}
	if before.stack() != before.Sp {
		t.Error("the stack is elsewhere")
	}
}

func TestRegistersABI(t *testing.T) {
	t.Parallel()
	for pstate, want := range map[uint64]abi.ABI{0x60001000: abi.ARM64, 0x60000010: abi.Unknown} {
		if got := (registers{Pstate: pstate}).abi(); got != want {
			t.Errorf("state %#x: %s, want %s", pstate, got, want)
		}
	}
}

// What is interrupted, and what is wound back before it goes on.
func TestRegistersInterrupted(t *testing.T) {
	t.Parallel()
	const here, behind, elsewhere = 0x1000, 0x1000 - 4, 0x3000
	failed := func(errno int) uint64 { return uint64(-int64(errno)) }
	in := func(call abi.Call, first uint64) wait { return wait{call: call, interrupted: true, first: first} }
	for _, test := range []struct {
		name       string
		number, x0 uint64
		at         uint64 // of a system call instruction; the program counter is here
		want       wait
		back       bool
	}{
		{"epoll_pwait", 22, failed(4), behind, in(abi.EpollWait, 5), true},
		{"epoll_pwait2", 441, failed(4), behind, in(abi.EpollWait, 5), true},
		{"epoll_pwait that has an event", 22, 1, behind, wait{}, false},
		{"epoll_pwait with another error", 22, failed(9), behind, wait{}, false},
		{"epoll_pwait a while ago", 22, failed(4), elsewhere, wait{}, false},
		{"epoll_pwait that the kernel restarts", 22, 7, here, in(abi.EpollWait, 7), false},
		{"accept, wound back by the kernel", 202, 7, here, in(abi.Accept, 7), false},
		{"ppoll, wound back by the kernel", 73, 7, here, in(abi.Ppoll, 7), false},
		{"a read with a limit", 63, failed(4), behind, in(abi.Recv, 5), true},
		{"232 is another call", 232, failed(4), behind, in(abi.Other, 5), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := registers{Pc: here, Sp: 0x2000}
			r.Regs[0], r.Regs[1], r.Regs[8] = test.x0, 77, test.number
			if got := r.result(); got != int64(test.x0) {
				t.Errorf("the result is %d", got)
			}
			before := proc.Syscall{Number: int64(test.number), Args: [6]uint64{5, 77}}
			w := r.waitIn(before, func(at uint64) bool { return at == test.at })
			if w != test.want {
				t.Errorf("interrupted: %+v, want %+v", w, test.want)
			}
			want := r
			if test.back {
				want.Pc, want.Regs[0] = behind, 5
			}
			if got := r.rewound(w); got != want {
				t.Errorf("wound back: %+v, want %+v", got, want)
			}
			r.Pstate = 0x10
			if w := r.waitIn(before, func(uint64) bool { return true }); w != (wait{}) {
				t.Errorf("32-bit code: %+v", w)
			}
		})
	}
	// What it does now is not what it was seen to do.
	for _, before := range []proc.Syscall{{Number: -1}, {Number: -1, Running: true}, {Number: 441, Args: [6]uint64{5, 77}}, {Number: 22, Args: [6]uint64{5, 78}}} {
		var r registers
		r.Pc, r.Regs[0], r.Regs[1], r.Regs[8] = here, failed(4), 77, 22
		if w := r.waitIn(before, func(at uint64) bool { return at == behind }); w.interrupted {
			t.Errorf("a call is made anew whose argument is not known: %+v", before)
		}
	}
}

func TestRegistersInstruction(t *testing.T) {
	t.Parallel()
	// mov x0, x1; half of svc #0 and its other half out of line; svc #0; ret
	code := []byte{0xe0, 0x03, 0x01, 0xaa, 0x00, 0x00, 0x01, 0x00, 0x00, 0xd4, 0x00, 0x00, 0x01, 0x00, 0x00, 0xd4, 0xc0, 0x03, 0x5f, 0xd6}
	for a, want := range map[abi.ABI]int{abi.ARM64: 12, abi.ARM: -1, abi.AMD64: -1, abi.Unknown: -1} {
		if got := findInstruction(a, code); got != want {
			t.Errorf("%s: at %d, want %d", a, got, want)
		}
	}
}
