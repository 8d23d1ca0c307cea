package proc

import (
	"os"

	"golang.org/x/sys/unix"
)

// ReadMemory copies len(buf) bytes at addr of the memory of a thread's process (process_vm_readv(2), Linux 3.2; needs
// ptrace access to it). The error matches unix.EFAULT where not all of that can be read, unix.EPERM where the process may
// not be looked into, and unix.ESRCH where it is gone.
func ReadMemory(tid int, addr uint64, buf []byte) error {
	return transfer("process_vm_readv", unix.ProcessVMReadv, tid, addr, buf)
}

// WriteMemory copies buf to addr of the memory of a thread's process (process_vm_writev(2)). The errors are ReadMemory's.
func WriteMemory(tid int, addr uint64, buf []byte) error {
	return transfer("process_vm_writev", unix.ProcessVMWritev, tid, addr, buf)
}

func transfer(name string, call func(int, []unix.Iovec, []unix.RemoteIovec, uint) (int, error), tid int, addr uint64, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := call(tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err == nil && n != len(buf) {
		err = unix.EFAULT
	}
	return os.NewSyscallError(name, err)
}
