package remote

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
)

const code64, code32 = 0x33, 0x23

// What a call is set up with, and that nothing else of the thread changes.
func TestRegistersPrepare(t *testing.T) {
	t.Parallel()
	before := registers{R15: 15, R14: 14, R13: 13, R12: 12, Rbp: 1, Rbx: 2, R11: 11, R10: 10, R9: 9, R8: 8, Rax: 3, Rcx: 4, Rdx: 5,
		Rsi: 6, Rdi: 7, Orig_rax: 232, Rip: 0x401000, Eflags: 0x246, Rsp: 0x7ffff000, Ss: 0x2b, Fs_base: 16, Gs: 0x63}
	const at = 0x7fff1234
	args := [6]uintptr{101, 1 << 40, ^uintptr(0), 104, 105, 106}

	before.Cs = code64
	want := before
	want.Rip, want.Rax, want.Orig_rax = at, 50, ^uint64(0)
	want.Rdi, want.Rsi, want.Rdx, want.R10, want.R8, want.R9 = 101, 1<<40, ^uint64(0), 104, 105, 106
	if got := before.prepare(at, 50, args); got != want {
		t.Errorf("amd64: %+v, want %+v", got, want)
	}

	before.Cs = code32
	want = before
	want.Rip, want.Rax, want.Orig_rax = at, 363, ^uint64(0)
	want.Rbx, want.Rcx, want.Rdx, want.Rsi, want.Rdi, want.Rbp = 101, 0, 0xffffffff, 104, 105, 106
	if got := before.prepare(at, 363, args); got != want {
		t.Errorf("i386: %+v, want %+v", got, want)
	}
	if want.done(at) || !(registers{Rip: at + 2}).done(at) {
		t.Error("done is behind the instruction")
	}
}

func TestRegistersResult(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cs, rax uint64
		want    int64
	}{
		{code64, 7, 7}, {code64, ^uint64(8), -9}, {code64, 0xfffffff7, 0xfffffff7},
		{code32, 7, 7}, {code32, ^uint64(8), -9}, {code32, 0xfffffff7, -9}, // however the kernel extends it
		{code32, 0xf7f00000, 0xf7f00000}, {code32, 0xfffffffff7f00000, 0xf7f00000}, // an address
		{code32, 0xfffff001, -4095}, {code32, 0xfffff000, 0xfffff000},
	} {
		if got := (registers{Cs: test.cs, Rax: test.rax}).result(); got != test.want {
			t.Errorf("code segment %#x, rax %#x: %d, want %d", test.cs, test.rax, got, test.want)
		}
	}
}

// What is interrupted, and what is wound back before it goes on.
func TestRegistersInterrupted(t *testing.T) {
	t.Parallel()
	const none, x32 = ^uint64(0), 0x40000000
	failed := func(errno int) uint64 { return uint64(-int64(errno)) }
	for _, test := range []struct {
		name      string
		cs        uint64
		orig, rax uint64
		first     uint64 // argument
		call      abi.Call
		ok, back  bool
	}{
		{"epoll_wait", code64, 232, failed(4), 5, abi.EpollWait, true, true},
		{"epoll_pwait", code64, 281, failed(4), 5, abi.EpollWait, true, true},
		{"epoll_pwait2", code64, 441, failed(4), 5, abi.EpollWait, true, true},
		{"epoll_wait of x32", code64, x32 | 232, failed(4), 5, abi.EpollWait, true, true},
		{"epoll_wait that has an event", code64, 232, 1, 5, abi.Other, false, false},
		{"epoll_wait with another error", code64, 232, failed(9), 5, abi.Other, false, false},
		{"accept", code64, 43, failed(512), 5, abi.Accept, true, false},
		{"poll", code64, 7, failed(516), 5, abi.Poll, true, false},
		{"a read with a limit", code64, 0, failed(4), 5, abi.Recv, true, true},
		{"another call that was", code64, 35, failed(4), 5, abi.Other, true, false},
		{"no call", code64, none, failed(4), 5, abi.Other, false, false},
		{"i386: epoll_wait", code32, 256, failed(4), 5, abi.EpollWait, true, true},
		{"i386: epoll_wait, not sign-extended", code32, 256, 0xfffffffc, 5, abi.EpollWait, true, true},
		{"i386: epoll_pwait", code32, 319, failed(4), 5, abi.EpollWait, true, true},
		{"i386: epoll_pwait2", code32, 441, failed(4), 5, abi.EpollWait, true, true},
		{"i386: 232 is another call", code32, 232, failed(4), 5, abi.Other, true, false},
		{"i386: accept4", code32, 364, failed(512), 5, abi.Accept, true, false},
		{"i386: accept by socketcall", code32, 102, failed(512), 5, abi.Accept, true, false},
		{"i386: connect by socketcall", code32, 102, failed(512), 3, abi.Interruptible, true, false},
		{"i386: no call", code32, none, failed(4), 5, abi.Other, false, false},
		{"i386: no call, not sign-extended", code32, 0xffffffff, failed(4), 5, abi.Other, false, false},
		{"unknown code", 0x10, 232, failed(4), 5, abi.Other, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := registers{Cs: test.cs, Rip: 0x1000, Rax: test.rax, Orig_rax: test.orig, Rdi: test.first, Rcx: 77, R11: 78}
			if test.cs == code32 {
				r.Rdi, r.Rbx = 99, test.first
			}
			w := r.wait(0, beforeStop(0))
			taken := wait{call: test.call, interrupted: test.ok}
			if test.ok {
				taken.first = test.first
			}
			if w != taken {
				t.Errorf("interrupted: %+v, want %+v", w, taken)
			}
			want := r
			if test.back {
				want.Rax = failed(514)
			}
			if got := r.rewound(w); got != want {
				t.Errorf("wound back: %+v, want %+v", got, want)
			}
		})
	}
}

func TestRegistersInstruction(t *testing.T) {
	t.Parallel()
	code := []byte{0x90, 0x0f, 0x34, 0xcd, 0x80, 0x0f, 0x05, 0xc3} // nop, sysenter, int 0x80, syscall, ret
	for a, want := range map[abi.ABI]int{abi.AMD64: 5, abi.I386: 3, abi.ARM64: -1, abi.Unknown: -1} {
		if got := findInstruction(a, code); got != want {
			t.Errorf("%s: at %d, want %d", a, got, want)
		}
	}
	if got := findInstruction(abi.I386, code[:4]); got != -1 {
		t.Errorf("half an instruction at %d", got)
	}
}

// A write of a thread's registers takes what a read gave, for code of either kind.
func TestRegistersRoundTrip(t *testing.T) { eachABI(t, testRegistersRoundTrip) }

func testRegistersRoundTrip(t *testing.T, code abi.ABI) {
	p := start(t, code, "idle")
	p.expect("ready")
	f := p.freeze()
	for _, tid := range f.Threads() {
		var r, again registers
		if err := readRegisters(tid, &r); err != nil {
			t.Fatal(err)
		}
		if r.abi() != code {
			t.Errorf("thread %d runs code of %s (segment %#x)", tid, r.abi(), r.Cs)
		}
		if code == abi.I386 && (r.Rip>>32 != 0 || r.Rsp>>32 != 0) {
			t.Errorf("an address above 4 GiB: %+v", r)
		}
		if err := writeRegisters(tid, &r); err != nil {
			t.Fatal(err)
		}
		if err := readRegisters(tid, &again); err != nil || again != r {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	}
	f.Thaw()
	p.tell()
	p.expect("done")
	if err := readRegisters(unix.Getpid(), new(registers)); err != ErrGone {
		t.Errorf("registers of a thread that isn't stopped: %v", err)
	}
}
