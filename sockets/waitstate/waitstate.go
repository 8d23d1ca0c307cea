package waitstate

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// On lists the descriptors that the thread waits on to be readable, right now.
func On(pid, tid int, code abi.ABI) []int {
	now, err := proc.ReadSyscall(pid, tid)
	if err != nil || now.Running {
		return nil
	}
	fds, _ := At(tid, code, now)
	return fds
}

// At lists the descriptors that a thread waits on to be readable, or the epoll set that it waits on; -1 where there is none. now is where
// it was seen.
func At(tid int, code abi.ABI, now proc.Syscall) (fds []int, set int) {
	return waitsWith(memoryOf(tid), code, now)
}

func waitsWith(read memory, code abi.ABI, now proc.Syscall) (fds []int, set int) {
	switch call, args := unpackWith(read, code, now); call {
	case abi.Accept, abi.Recv:
		return []int{int(int32(args[0]))}, -1
	case abi.Poll, abi.Ppoll:
		return polled(read(args[0], 8*fewPolled(args[1]))), -1
	case abi.Select, abi.Pselect6:
		n := fewPolled(args[0])
		return selected(read(args[1], (n+7)/8), int(n)), -1
	case abi.EpollWait:
		return nil, int(int32(args[0]))
	}
	return nil, -1
}

// CallOf tells which call a thread is in, and with which arguments: i386's socketcall has them in the thread's memory.
// Where that can't be read the call is abi.Other.
func CallOf(tid int, code abi.ABI, now proc.Syscall) (abi.Call, [6]uint64) {
	return unpackWith(memoryOf(tid), code, now)
}

func unpackWith(read memory, code abi.ABI, now proc.Syscall) (abi.Call, [6]uint64) {
	if now.Number < 0 {
		return abi.Other, now.Args
	}
	call := code.Call(now.Number, now.Args[0])
	if call != abi.Other && code.InMemory(now.Number) {
		words := read(now.Args[1], 4) // the first is enough: the descriptor
		if words == nil {
			return abi.Other, now.Args
		}
		return call, [6]uint64{uint64(binary.NativeEndian.Uint32(words))}
	}
	return call, now.Args
}

// ForDescriptors tells whether a call waits until a descriptor is ready, and looks
// at it anew when it is restarted; or for another thread.
func ForDescriptors(call abi.Call) bool {
	switch call {
	case abi.Poll, abi.Ppoll, abi.Select, abi.Pselect6, abi.EpollWait, abi.Futex:
		return true
	}
	return false
}

// maxPolled bounds what is read of one call's descriptors.
const maxPolled = 4096

// fewPolled is how many descriptors are looked at of a call that has this many. It is an int to the kernel: what is
// above in the register does not count.
func fewPolled(n uint64) uint64 { return min(uint64(uint32(n)), maxPolled) }

// memory copies a piece of a process's memory; nil where that can't be.
type memory func(addr, size uint64) []byte

// memoryOf is that of a thread.
func memoryOf(tid int) memory {
	return func(addr, size uint64) []byte {
		if addr == 0 || size == 0 {
			return nil
		}
		buf := make([]byte, size)
		if proc.ReadMemory(tid, addr, buf) != nil {
			return nil
		}
		return buf
	}
}

// polled reads an array of struct pollfd (poll(2)): an int and two shorts each. Those with a negative one are for
// nothing.
func polled(b []byte) []int {
	var fds []int
	for ; len(b) >= 8; b = b[8:] {
		if fd := int32(binary.NativeEndian.Uint32(b)); fd >= 0 && binary.NativeEndian.Uint16(b[4:])&unix.POLLIN != 0 {
			fds = append(fds, int(fd))
		}
	}
	return fds
}

// selected reads an fd_set (select(2)) of n descriptors: one bit for each, in longs, which on a little-endian machine
// are the same as bytes, however long they are. What is behind the nth bit is not for the call.
func selected(b []byte, n int) []int {
	var fds []int
	for i, bits := range b {
		for bit := range 8 {
			if fd := 8*i + bit; fd < n && bits&(1<<bit) != 0 {
				fds = append(fds, fd)
			}
		}
	}
	return fds
}
