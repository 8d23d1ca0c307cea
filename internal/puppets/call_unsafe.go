package puppets

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeCall issues the call on the calling thread.
func makeCall(o Order) (int, unix.Errno) {
	args := o.Args
	for i, b := range o.Memory {
		if len(b) > 0 {
			args[i] = uint64(uintptr(unsafe.Pointer(&b[0]))) // on the heap, which does not move
		}
	}
	value, _, errno := unix.Syscall6(o.Number, uintptr(args[0]), uintptr(args[1]), uintptr(args[2]),
		uintptr(args[3]), uintptr(args[4]), uintptr(args[5]))
	runtime.KeepAlive(o.Memory)
	return int(value), errno
}
