package remote

import (
	"os"

	"golang.org/x/sys/unix"
)

// Read copies memory of the process.
func (f *Frozen) Read(addr uint64, buf []byte) error { return readMemory(f.pid, addr, buf) }

func readMemory(pid int, addr uint64, buf []byte) error {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err == nil && n != len(buf) {
		err = unix.EFAULT
	}
	return os.NewSyscallError("process_vm_readv", err)
}

func (f *Frozen) write(addr uint64, buf []byte) error {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMWritev(f.pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err == nil && n != len(buf) {
		err = unix.EFAULT
	}
	return os.NewSyscallError("process_vm_writev", err)
}

// WithSpace puts data into the memory of the process for as long as use runs: what fill makes
// of the address, size bytes at the most. It is a stretch of stack below what is in use; what was
// there comes back.
func (f *Frozen) WithSpace(size int, fill func(addr uint64) []byte, use func(addr uint64) error) error {
	if err := f.prepareCalls(); err != nil {
		return err
	}
	addr := f.calls.scratch - uint64(size+63)&^63
	data := fill(addr)
	before := make([]byte, len(data))
	if err := f.Read(addr, before); err != nil {
		return err
	}
	if err := f.write(addr, data); err != nil {
		return err
	}
	defer f.write(addr, before)
	return use(addr)
}
