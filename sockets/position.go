package sockets

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"huptime/internal/abi"
	"huptime/internal/proc"
)

// waitedOn tells which of the sockets some thread of the processes waits on: in
// accept, in a call that takes datagrams, in poll or select, or through an epoll set. Processes that can't be looked into are passed over: whoever asks has a limit for what can't be seen.
func waitedOn(pids []int, inodes map[uint64]struct{}) map[uint64]struct{} {
	found := make(map[uint64]struct{})
	for _, r := range registrations(pids, inodes) {
		found[r.inode] = struct{}{}
	}
	for _, pid := range pids {
		if len(found) == len(inodes) {
			break
		}
		holders, opaque := proc.Holders([]int{pid}, inodes)
		if len(holders) == 0 || len(opaque) > 0 {
			continue
		}
		at := make(map[int]uint64) // descriptor → socket
		for inode, list := range holders {
			for _, h := range list {
				at[h.FD] = inode
			}
		}
		code, err := proc.ABI(pid)
		if err != nil {
			continue
		}
		tids, err := proc.Threads(pid)
		if err != nil {
			continue
		}
		for _, tid := range tids {
			for _, fd := range waitsOn(pid, tid, code) {
				if inode, ok := at[fd]; ok {
					found[inode] = struct{}{}
				}
			}
		}
	}
	return found
}

// waitsOn lists the descriptors that the thread waits on to be readable, right now.
func waitsOn(pid, tid int, code abi.ABI) []int {
	now, err := proc.ReadSyscall(pid, tid)
	if err != nil || now.Running {
		return nil
	}
	switch call, args := unpack(tid, code, now); call {
	case abi.Accept, abi.Recv:
		return []int{int(int32(args[0]))}
	case abi.Poll, abi.Ppoll:
		return polled(memoryOf(tid, args[0], 8*min(args[1], maxPolled)))
	case abi.Select, abi.Pselect6:
		return selected(memoryOf(tid, args[1], (min(args[0], maxPolled)+7)/8))
	}
	return nil
}

// unpack tells which call a thread is in, and with which arguments: i386's socketcall has them in the thread's memory.
// Where that can't be read the call is abi.Other.
func unpack(tid int, code abi.ABI, now proc.Syscall) (abi.Call, [6]uint64) {
	if now.Number < 0 {
		return abi.Other, now.Args
	}
	call := code.Call(now.Number, now.Args[0])
	if call != abi.Other && code.InMemory(now.Number) {
		words := memoryOf(tid, now.Args[1], 4) // the first is enough: the descriptor
		if words == nil {
			return abi.Other, now.Args
		}
		return call, [6]uint64{uint64(binary.NativeEndian.Uint32(words))}
	}
	return call, now.Args
}

// waitsForDescriptors tells whether a call waits until a descriptor is ready, and looks
// at it anew when it is restarted; or for another thread.
func waitsForDescriptors(call abi.Call) bool {
	switch call {
	case abi.Poll, abi.Ppoll, abi.Select, abi.Pselect6, abi.EpollWait, abi.Futex:
		return true
	}
	return false
}

// maxPolled bounds what is read of one call's descriptors.
const maxPolled = 4096

// memoryOf copies memory of a process; nil where that can't be.
func memoryOf(tid int, addr, size uint64) []byte {
	if addr == 0 || size == 0 {
		return nil
	}
	buf := make([]byte, size)
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err != nil || n != len(buf) {
		return nil
	}
	return buf
}

// polled reads an array of struct pollfd (poll(2)): an int and two shorts each.
func polled(b []byte) []int {
	var fds []int
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint16(b[4:])&unix.POLLIN != 0 {
			fds = append(fds, int(int32(binary.NativeEndian.Uint32(b))))
		}
	}
	return fds
}

// selected reads an fd_set (select(2)): one bit for a descriptor, in longs, which on
// a little-endian machine are the same as bytes, however long they are.
func selected(b []byte) []int {
	var fds []int
	for i, bits := range b {
		for bit := range 8 {
			if bits&(1<<bit) != 0 {
				fds = append(fds, 8*i+bit)
			}
		}
	}
	return fds
}
