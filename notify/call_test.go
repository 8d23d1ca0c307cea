package notify

import (
	"encoding/binary"
	"testing"

	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// The numbers that are written out must be those that libseccomp, which makes the filter, knows.
func TestCallNumbers(t *testing.T) {
	t.Parallel()
	for arch, abi := range map[uint32][]seccomp.ScmpArch{
		ArchX86_64:  {seccomp.ArchAMD64, seccomp.ArchX32},
		ArchI386:    {seccomp.ArchX86},
		ArchAArch64: {seccomp.ArchARM64},
		ArchARM:     {seccomp.ArchARM},
	} {
		known := 0
		for name, want := range map[string]Call{
			"bind": CallBind, "listen": CallListen, "accept": CallAccept, "accept4": CallAccept,
			"rt_sigaction": CallSigaction, "sigaction": CallOldSigaction,
			"unlink": CallUnlink, "unlinkat": CallUnlink, "rename": CallRename, "renameat": CallRename, "renameat2": CallRename, "setsockopt": CallSteer, "close": CallClose,
			"kill": CallHangup, "tkill": CallHangup, "rt_sigqueueinfo": CallHangup,
			"tgkill": CallThreadHangup, "rt_tgsigqueueinfo": CallThreadHangup,
			"rmdir": CallOther, "link": CallOther, "linkat": CallOther, "getpid": CallOther, "connect": CallConnect, "shutdown": CallOther,
		} {
			for _, a := range abi {
				number, err := seccomp.GetSyscallFromNameByArch(name, a)
				if err != nil || number < 0 {
					continue // this ABI has no such call of its own
				}
				if got := callOf(arch, int32(number)); got != want {
					t.Errorf("%v: call %d, %s, is %v", a, number, name, got)
				}
				if want != CallOther {
					known++
				}
			}
		}
		// Of i386's socket calls the library knows socketcall alone.
		if known < len(callNumbers[arch]) && arch != ArchI386 || known == 0 {
			t.Errorf("architecture %#x: libseccomp knows %d of %d numbers", arch, known, len(callNumbers[arch]))
		}
	}
	for _, arch := range []uint32{0, 1, unix.AUDIT_ARCH_PPC64LE, ^uint32(0)} {
		for number := range int32(512) {
			if c := callOf(arch, number); c != CallOther {
				t.Fatalf("call %d of architecture %#x is %v", number, arch, c)
			}
		}
	}
}

func TestCallString(t *testing.T) {
	t.Parallel()
	for c, want := range map[Call]string{CallOther: "other", CallAccept: "accept", CallOldSigaction: "sigaction", CallRename: "rename", 200: "call(200)"} {
		if c.String() != want {
			t.Errorf("%q, want %q", c, want)
		}
	}
	r := &Request{Call: CallBind, TID: 7, Args: [6]uint64{0xffffffff00000003}}
	if r.String() != "bind(3) of thread 7" {
		t.Errorf("%q", r)
	}
}

// A descriptor is an int: what is above it in the register does not matter.
func TestRequestFD(t *testing.T) {
	t.Parallel()
	for arg, want := range map[uint64]int{3: 3, 1<<32 | 3: 3, 0xffffffff: -1, ^uint64(0): -1, 0x80000000: -1 << 31} {
		if r := (&Request{Args: [6]uint64{arg}}); r.FD() != want {
			t.Errorf("%#x is %d, want %d", arg, r.FD(), want)
		}
	}
}

func TestRequestCompat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		arch   uint32
		number int32
		want   bool
	}{
		{ArchX86_64, 49, false}, {ArchX86_64, x32Bit | 49, true}, {ArchI386, 361, true}, {ArchAArch64, 200, false}, {ArchARM, 282, true},
	} {
		if r := (&Request{Arch: test.arch, Number: test.number}); r.Compat() != test.want {
			t.Errorf("architecture %#x, call %#x: %v", test.arch, test.number, r.Compat())
		}
	}
}

// i386's socketcall has its arguments in memory. A 64-bit puppet lends it some, below 4 GiB.
func TestDecodeSocketcall(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	const at, fixedNoReplace = 0x2000_0000, 0x100000 // MAP_FIXED_NOREPLACE
	page := p.Must(t, 0, unix.SYS_MMAP, at, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|fixedNoReplace, -1, 0)
	if page != at {
		t.Fatalf("the page is at %#x", page)
	}
	pair := p.Call(t, 0, unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, make([]byte, 8))
	var words []byte
	for _, word := range []uint32{5, 0xdeadbeef, 16} {
		words = binary.LittleEndian.AppendUint32(words, word)
	}
	p.Must(t, 0, unix.SYS_WRITE, int(pair.Memory[3][4]), words, len(words))
	p.Must(t, 0, unix.SYS_READ, int(pair.Memory[3][0]), page, len(words))
	unpacked := [6]uint64{5, 0xdeadbeef, 16}
	for _, test := range []struct {
		name   string
		arch   uint32
		number int32
		args   [6]uint64
		call   Call
		want   [6]uint64
	}{
		{"bind", ArchI386, i386Socketcall, [6]uint64{2, at}, CallBind, unpacked},
		{"listen", ArchI386, i386Socketcall, [6]uint64{4, at}, CallListen, [6]uint64{5, 0xdeadbeef}},
		{"listen, no third word", ArchI386, i386Socketcall, [6]uint64{4, at + 4096 - 8}, CallListen, [6]uint64{}},
		{"accept", ArchI386, i386Socketcall, [6]uint64{5, at}, CallAccept, unpacked},
		{"accept4", ArchI386, i386Socketcall, [6]uint64{18, at}, CallAccept, unpacked},
		{"junk above 32 bits", ArchI386, i386Socketcall, [6]uint64{1<<40 | 2, 1<<40 | at}, CallBind, unpacked},
		{"socket", ArchI386, i386Socketcall, [6]uint64{1, at}, CallOther, [6]uint64{1, at}},
		{"connect", ArchI386, i386Socketcall, [6]uint64{3, at}, CallConnect, unpacked},
		{"no memory", ArchI386, i386Socketcall, [6]uint64{2, 16}, CallOther, [6]uint64{2, 16}},
		{"half a memory", ArchI386, i386Socketcall, [6]uint64{2, at + 4096 - 8}, CallOther, [6]uint64{2, at + 4096 - 8}},
		{"the number in another ABI", ArchX86_64, i386Socketcall, [6]uint64{2, at}, CallOther, [6]uint64{2, at}},
		{"the direct call", ArchI386, 361, [6]uint64{2, at}, CallBind, [6]uint64{2, at}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got Request
			h.take(func(r *Request) Reply {
				got = *r
				got.Arch, got.Number, got.Args, got.Call = test.arch, test.number, test.args, CallOther
				got.decode()
				return Return(0)
			})
			p.Must(t, 1, unix.SYS_LISTEN, -1, 0)
			h.take(nil)
			if test.call == CallListen {
				got.Args[2] = 0 // listen has two arguments
			}
			if got.Call != test.call || got.Args != test.want {
				t.Errorf("%v of %#x, want %v of %#x", got.Call, got.Args, test.call, test.want)
			}
		})
	}
}
