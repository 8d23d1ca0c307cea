package waitstate

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// Whatever call a thread is in, of whatever ABI, and whatever it points to: the descriptors that it waits on are those
// that the kernel would look at, and no more of its memory is read than the call has.
func FuzzWaitsAt(f *testing.F) {
	pollfds := []byte("\x05\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00\x06\x00\x00\x00\x04\x00\x01\x00")
	f.Add(byte(abi.AMD64), int64(7), uint64(0x7ffd1000), uint64(3), pollfds)
	f.Add(byte(abi.AMD64), int64(270), uint64(6), uint64(0x7ffd1000), []byte("\xff\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(byte(abi.AMD64), int64(23), uint64(1<<32|1025), uint64(0x7ffd1000), bytes.Repeat([]byte{1}, 129))
	f.Add(byte(abi.AMD64), int64(232), uint64(9), uint64(0x7ffd1000), []byte{})
	f.Add(byte(abi.I386), int64(102), uint64(5), uint64(0xffffd000), []byte("\x03\x00\x00\x00"))
	f.Add(byte(abi.I386), int64(102), uint64(12), uint64(0xffffd000), []byte("\x03\x00"))
	f.Add(byte(abi.ARM64), int64(73), uint64(0xffff1000), ^uint64(0), bytes.Repeat(pollfds, 2000))
	f.Add(byte(abi.ARM64), int64(202), ^uint64(0), uint64(0), []byte{})
	f.Add(byte(abi.ARM), int64(-1), uint64(0), uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, which byte, number int64, first, second uint64, mem []byte) {
		code := abi.ABI(which % byte(abi.ARM+2))
		reads := 0
		read := func(addr, size uint64) []byte {
			if reads++; size > 8*maxPolled || addr != first && addr != second || reads > 1 {
				t.Fatalf("%s %d: %d bytes at %#x, the %dth time", code, number, size, addr, reads)
			}
			if size == 0 || size > uint64(len(mem)) {
				return nil
			}
			return mem[:size]
		}
		now := proc.Syscall{Number: number, Args: [6]uint64{first, second, 7, 8, 9, 10}}
		call, args := unpackWith(read, code, now)
		switch {
		case number >= 0 && code.InMemory(number) && call != abi.Other:
			if args != [6]uint64{uint64(binary.NativeEndian.Uint32(mem))} || reads != 1 {
				t.Fatalf("%s of %x, from %x", call, args, mem)
			}
		case args != now.Args || number < 0 && call != abi.Other:
			t.Fatalf("%s %d is %s of %x", code, number, call, args)
		}
		reads = 0
		fds, set := waitsWith(read, code, now)
		var want []int
		wantSet := -1
		switch call {
		case abi.Accept, abi.Recv:
			want = []int{int(int32(args[0]))}
		case abi.EpollWait:
			wantSet = int(int32(args[0]))
		case abi.Poll, abi.Ppoll:
			var array []unix.PollFd
			if n := min(uint32(second), maxPolled); 8*int(n) <= len(mem) {
				array = make([]unix.PollFd, n)
				if _, err := binary.Decode(mem, binary.NativeEndian, array); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range array {
				if p.Fd >= 0 && p.Events&unix.POLLIN != 0 {
					want = append(want, int(p.Fd))
				}
			}
		case abi.Select, abi.Pselect6:
			n := int(min(uint32(first), maxPolled))
			for fd := 0; fd < n && (n+7)/8 <= len(mem); fd++ {
				if mem[fd/8]>>(fd%8)&1 != 0 {
					want = append(want, fd)
				}
			}
		}
		if !slices.Equal(fds, want) || set != wantSet {
			t.Fatalf("%s of %x waits on %v and %d, want %v and %d", call, args, fds, set, want, wantSet)
		}
	})
}
