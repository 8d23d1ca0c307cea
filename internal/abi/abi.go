package abi

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ABI is a convention for system calls. The zero value is one that this package does not know.
type ABI uint8

// The ABIs of the machines that huptime is built for.
const (
	Unknown ABI = iota
	AMD64       // also x32's, which marks its calls by a bit, see x32Bit
	I386        // 32-bit x86 programs, on amd64 kernels with CONFIG_IA32_EMULATION
	ARM64
	ARM // 32-bit (EABI) programs, on arm64 kernels with CONFIG_COMPAT
)

var names = [...]string{"unknown", "amd64", "i386", "arm64", "arm"}

func (a ABI) String() string {
	if int(a) < len(names) {
		return names[a]
	}
	return fmt.Sprintf("abi(%d)", uint8(a))
}

// OfAudit translates an architecture number of include/uapi/linux/audit.h, as it comes with a notified call.
func OfAudit(arch uint32) ABI {
	switch arch {
	case unix.AUDIT_ARCH_X86_64:
		return AMD64
	case unix.AUDIT_ARCH_I386:
		return I386
	case unix.AUDIT_ARCH_AARCH64:
		return ARM64
	case unix.AUDIT_ARCH_ARM:
		return ARM
	}
	return Unknown
}

// ELF classes and machines (elf(5)).
const (
	elfClass32 = 1
	elfClass64 = 2

	elfMachine386   = 3
	elfMachineARM   = 40
	elfMachineX8664 = 62
	elfMachineARM64 = 183
)

// OfELF tells which ABI a program is made for, by the first 20 bytes of its file or more.
func OfELF(header []byte) ABI {
	const classAt, machineAt = 4, 18
	if len(header) < machineAt+2 || string(header[:classAt]) != "\x7fELF" {
		return Unknown
	}
	// Little-endian, as all of the above are.
	switch class, machine := header[classAt], int(header[machineAt])|int(header[machineAt+1])<<8; {
	case machine == elfMachineX8664: // of class 32 it is x32's
		return AMD64
	case class == elfClass32 && machine == elfMachine386:
		return I386
	case class == elfClass64 && machine == elfMachineARM64:
		return ARM64
	case class == elfClass32 && machine == elfMachineARM:
		return ARM
	}
	return Unknown
}

// Wide tells whether pointers and longs have 64 bits.
func (a ABI) Wide() bool { return a == AMD64 || a == ARM64 }
