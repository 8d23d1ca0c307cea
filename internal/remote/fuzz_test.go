package remote

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/huptime/huptime/internal/abi"
)

// What the kernel writes is read (fs/proc/array.c, render_sigset_t), whatever the process calls itself; and signals
// that are not told are none: then a program sees no EINTR of huptime's making.
func FuzzParsePending(f *testing.F) {
	// A real one (Linux 6.18), cut.
	f.Add([]byte("Name:\tnginx\nThreads:\t1\nSigQ:\t0/15393\n"+
		"SigPnd:\t0000000000000000\nShdPnd:\t0000000000000001\nSigBlk:\t0000000000000000\n"+
		"SigIgn:\t0000000040001000\nSigCgt:\t0000000018016a07\nCapInh:\t0000000000000000\n"),
		"nginx", uint64(0), uint64(1), uint64(0), uint64(0x18016a07))
	f.Add([]byte("SigPnd:\t0\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\n"), "\nSigCgt:\t1\n", ^uint64(0), uint64(1), uint64(2),
		uint64(3))
	f.Add([]byte("SigPnd:\t1\nShdPnd:\tx\nSigBlk:\t0\nSigCgt:\t0\n"), `\`, uint64(1), uint64(0), uint64(0), uint64(0))
	escaped := strings.NewReplacer("\n", `\n`, `\`, `\\`) // fs/proc/array.c, proc_task_name
	f.Fuzz(func(t *testing.T, b []byte, name string, own, shared, blocked, caught uint64) {
		p, ok := parsePending(b)
		if !ok && p != (pending{}) {
			t.Fatalf("%q: %+v", b, p)
		}
		for _, key := range []string{"SigPnd:", "ShdPnd:", "SigBlk:", "SigCgt:"} {
			if ok && !strings.Contains("\n"+string(b), "\n"+key) {
				t.Fatalf("%q has no %s and is %+v", b, key, p)
			}
		}
		text := fmt.Appendf(nil,
			"Name:\t%s\nSigQ:\t0/1\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\n",
			escaped.Replace(name), own, shared, blocked, ^caught, caught)
		if p, ok := parsePending(text); !ok || p != (pending{own, shared, blocked, caught}) {
			t.Fatalf("%q: %+v, %t", text, p, ok)
		}
	})
}

// A line of maps is what it was written of (fs/proc/task_mmu.c, show_map_vma), and no name makes it the vdso but that
// one.
func FuzzMapping(f *testing.F) {
	// /proc/self/maps of an amd64 and a 32-bit process.
	f.Add([]byte("7fff9a3f4000-7fff9a3f6000 r-xp 00000000 00:00 0                          [vdso]\n"),
		uint64(0x7fff9a3f4000), uint64(0x2000), true, "[vdso]")
	f.Add([]byte("f7f00000-f7f02000 r-xp 00000000 00:00 0 [vdso]"),
		uint64(0x400000), uint64(0x1000), false, "/usr/bin/a [vdso]")
	f.Add([]byte("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"),
		uint64(0), uint64(0), true, "/x\n0-1 r-xp 0 0:0 0 [vdso]")
	f.Add([]byte("1-0 r-xp 0 0 0\n"), ^uint64(0), uint64(1), true, "[anon: [vdso]]")
	f.Add([]byte("1 r-xp 0 0 0\n"), uint64(1), ^uint64(0), true, "")
	f.Fuzz(func(t *testing.T, line []byte, from, size uint64, executable bool, name string) {
		if m, ok := mapping(line); ok && m.from >= m.to {
			t.Fatalf("%q: %+v", line, m)
		}
		to := from + size
		mode := "rw-p"
		if executable {
			mode = "r-xp"
		}
		// The kernel's own names are fixed; all others are paths, or made of brackets.
		vdso := name == "[vdso]"
		if name != "" && !vdso {
			name = "/" + name
		}
		text := fmt.Appendf(nil, "%08x-%08x %s %08x %02x:%02x %d %s\n", from, to,
			mode, 4096, 8, 1, 77, strings.ReplaceAll(name, "\n", `\012`))
		m, ok := mapping(text)
		if ok != (from < to) || ok && m != (extent{from, to, executable, vdso}) {
			t.Fatalf("%q: %+v, %t", text, m, ok)
		}
	})
}

// What is found is an instruction of that ABI, the first one, and all of it is there.
func FuzzFindInstruction(f *testing.F) {
	f.Add(byte(abi.AMD64), []byte("\x48\x89\xf8\x0f\x05\xc3")) // mov rax, rdi; syscall; ret
	f.Add(byte(abi.I386), []byte("\x0f\x34\xcd\x80\x5d\x5a"))  // sysenter; int 0x80; pop ebp; pop edx
	f.Add(byte(abi.ARM64), []byte("\x08\x00\x80\xd2\x01\x00\x00\xd4\xc0\x03\x5f\xd6"))
	f.Add(byte(abi.ARM64), []byte("\x00\x01\x00\x00\xd4\x00\x00\x00"))
	f.Add(byte(abi.AMD64), []byte("\x05\x0f"))
	known := map[abi.ABI]struct {
		code  []byte
		align int
	}{abi.AMD64: {[]byte("\x0f\x05"), 1}, abi.I386: {[]byte("\xcd\x80"), 1}}
	if abi.Native == abi.ARM64 {
		clear(known)
		known[abi.ARM64] = struct {
			code  []byte
			align int
		}{[]byte("\x01\x00\x00\xd4"), 4}
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		code := abi.ABI(which % (byte(abi.ARM) + 2))
		want := -1
		if k, ok := known[code]; ok {
			for i := 0; i+len(k.code) <= len(in); i += k.align {
				if bytes.Equal(in[i:i+len(k.code)], k.code) {
					want = i
					break
				}
			}
		}
		if got := findInstruction(code, in); got != want {
			t.Fatalf("%s: %x: at %d, want %d", code, in, got, want)
		}
	})
}

// The vdso is where the first entry of its kind says; a kind is never taken for a value, nor a value for a kind.
func FuzzVDSO(f *testing.F) {
	f.Add(byte(abi.AMD64),
		[]byte("\x21\x00\x00\x00\x00\x00\x00\x00\x00\xf0\x9c\xf7\xff\x7f\x00\x00"+
			"\x33\x00\x00\x00\x00\x00\x00\x00\xd0\x0d\x00\x00\x00\x00\x00\x00"))
	f.Add(byte(abi.I386), []byte("\x20\x00\x00\x00\x21\x00\x00\x00\x21\x00\x00\x00\x00\x50\xf0\xf7\x21\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, which byte, auxv []byte) {
		words := abi.ABI(which % (byte(abi.ARM) + 2)).Words(auxv)
		at, ok := vdsoIn(words)
		for i, w := range words {
			if i%2 != 0 || w != 33 || i+1 == len(words) {
				continue
			}
			if at != words[i+1] || ok != (at != 0) {
				t.Fatalf("%x: %#x, %t", words, at, ok)
			}
			return
		}
		if ok || at != 0 {
			t.Fatalf("%x: %#x, %t", words, at, ok)
		}
	})
}
