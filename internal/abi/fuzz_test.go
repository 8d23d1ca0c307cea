package abi

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// fuzzed is one of the ABIs, or one that is not known.
func fuzzed(a byte) ABI { return ABI(a % (byte(ARM) + 2)) }

// Words written down again are what was read, but for what is left behind the last whole one.
func FuzzWords(f *testing.F) {
	// What /proc/PID/auxv begins with (AT_SYSINFO_EHDR, 33), of 64-bit and of 32-bit programs.
	f.Add(byte(AMD64),
		[]byte("\x21\x00\x00\x00\x00\x00\x00\x00\x00\xf0\x9c\xf7\xff\x7f\x00\x00\x33\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(byte(I386), []byte("\x20\x00\x00\x00\xd0\x55\xf0\xf7\x21\x00\x00\x00\x00\x50\xf0\xf7\x33\x00"))
	f.Add(byte(Unknown), []byte("1234567"))
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		a := fuzzed(which)
		size := 4
		if a.Wide() {
			size = 8
		}
		given := bytes.Clone(b)
		words := a.Words(b)
		var again []byte
		for _, w := range words {
			if again = binary.NativeEndian.AppendUint64(again, w); size == 4 {
				if w>>32 != 0 {
					t.Fatalf("%s: a word of %#x", a, w)
				}
				again = again[:len(again)-4] // both architectures are little-endian
			}
		}
		if len(words) != len(b)/size || !bytes.Equal(again, b[:len(b)/size*size]) || !bytes.Equal(b, given) {
			t.Fatalf("%s: %x is %x", a, given, words)
		}
	})
}

// What is found agrees with debug/elf's names for class and machine, and hangs on nothing behind the 20 bytes.
func FuzzOfELF(f *testing.F) {
	// /usr/bin/true of amd64, and headers of the others.
	f.Add([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e\x00\x01\x00\x00\x00"))
	f.Add([]byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x03\x00"))
	f.Add([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\xb7\x00"))
	f.Add([]byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00"))
	f.Add([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e"))
	f.Add([]byte("#!/usr/bin/env python3\n"))
	f.Fuzz(func(t *testing.T, header []byte) {
		want := Unknown
		if len(header) >= 20 && string(header[:4]) == elf.ELFMAG {
			class := elf.Class(header[elf.EI_CLASS])
			switch elf.Machine(binary.LittleEndian.Uint16(header[18:])) {
			case elf.EM_X86_64:
				want = AMD64
			case elf.EM_386:
				want = map[elf.Class]ABI{elf.ELFCLASS32: I386}[class]
			case elf.EM_AARCH64:
				want = map[elf.Class]ABI{elf.ELFCLASS64: ARM64}[class]
			case elf.EM_ARM:
				want = map[elf.Class]ABI{elf.ELFCLASS32: ARM}[class]
			}
		}
		if got := OfELF(header); got != want {
			t.Fatalf("%x is of %s, want %s", header, got, want)
		}
		if got := OfELF(header[:min(20, len(header))]); got != want {
			t.Fatalf("the first 20 bytes of %x are of %s, want %s", header, got, want)
		}
	})
}

// The argument of sendmsg says what it was made of, to whoever reads it as the kernel does, and points to nothing but
// itself.
func FuzzRights(f *testing.F) {
	f.Add(byte(AMD64), uint64(0x7f0000001000), uint32(7))
	f.Add(byte(I386), uint64(0xf7f05000), uint32(0))
	f.Fuzz(func(t *testing.T, which byte, addr uint64, fd uint32) {
		a := fuzzed(which)
		if !a.Wide() {
			addr &= 1<<32 - 1
		}
		b := a.Rights(addr, int(int32(fd)))
		word := 4
		if a.Wide() {
			word = 8
		}
		at := func(offset int) uint64 { return a.Words(b[offset : offset+word])[0] }
		// Where a pointer leads, as an offset in b.
		offset := func(pointer uint64) int {
			if pointer -= addr; word == 4 {
				pointer &= 1<<32 - 1
			}
			return int(pointer)
		}
		iov, control, length := offset(at(2*word)), offset(at(4*word)), int(at(5*word))
		if at(0) != 0 || at(3*word) != 1 || iov < 7*word || iov+2*word > len(b) || control < iov+2*word ||
			control+length > len(b) {
			t.Fatalf("%s: %x", a, b)
		}
		if sent := offset(at(iov)); sent != len(b)-1 || at(iov+word) != 1 || sent < control+length {
			t.Fatalf("%s: what is sent is %d at %d of %d", a, at(iov+word), sent, len(b))
		}
		if size := int(at(control)); size != word+8+4 || size > length {
			t.Fatalf("%s: a control message of %d in %d", a, size, length)
		}
		if got := binary.NativeEndian.Uint32(b[control+word+8:]); got != fd {
			t.Fatalf("%s: descriptor %d, want %d", a, got, fd)
		}
		if a != Native {
			return
		}
		list, err := unix.ParseSocketControlMessage(b[control : control+length])
		if err != nil || len(list) != 1 {
			t.Fatalf("%d control messages, %v", len(list), err)
		}
		if fds, err := unix.ParseUnixRights(&list[0]); err != nil || len(fds) != 1 || fds[0] != int(int32(fd)) {
			t.Fatalf("%v, %v, want %d", fds, err, int32(fd))
		}
	})
}

// Which call a number is does not hang on x32's bit, nor on a first argument but where the arguments are in memory;
// and a call that has one number is made by that.
func FuzzCall(f *testing.F) {
	f.Add(byte(I386), int64(102), uint64(18))
	f.Add(byte(AMD64), int64(x32Bit|43), uint64(3))
	f.Add(byte(ARM64), int64(-1), uint64(0))
	f.Fuzz(func(t *testing.T, which byte, number int64, first uint64) {
		a := fuzzed(which)
		call := a.Call(number, first)
		if int(call) >= len(callNames) {
			t.Fatalf("%s %d is %s", a, number, call)
		}
		if !a.InMemory(number) && a.Call(number, first+1) != call {
			t.Fatalf("%s %d hangs on its argument", a, number)
		}
		if a == AMD64 && a.Call(number^x32Bit, first) != call {
			t.Fatalf("%d is %s, and something else with x32's bit", number, call)
		}
		if n, ok := a.Number(call); ok && n != number && !a.InMemory(number) && (a != AMD64 || n != number&^x32Bit) {
			t.Fatalf("%s %d is %s, which is made by %d", a, number, call, n)
		}
	})
}
