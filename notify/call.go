package notify

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Call names a notified system call, whatever its number is in the ABI that
// the target used for it.
type Call uint8

// The calls that a filter of this package asks about.
const (
	CallOther Call = iota // a call that this package does not decode
	CallBind
	CallListen
	CallAccept       // accept and accept4
	CallSigaction    // rt_sigaction for SIGHUP with a new action
	CallOldSigaction // the same by sigaction(2) of the 32-bit ABIs, with another layout
	// CallUnlink is unlink and unlinkat; the arguments are unlinkat's.
	CallUnlink
	// CallRename is rename, renameat and renameat2; the arguments are renameat2's.
	CallRename
	// CallSteer is setsockopt with SO_ATTACH_REUSEPORT_CBPF or SO_ATTACH_REUSEPORT_EBPF.
	CallSteer
	// CallClose is close. It has not run yet when it is notified, and may yet fail.
	CallClose
	// CallConnect is connect.
	CallConnect
	// CallHangup is kill, tkill and rt_sigqueueinfo with SIGHUP; the first argument is whom it is for.
	CallHangup
	// CallThreadHangup is tgkill and rt_tgsigqueueinfo likewise: the first two arguments are the process and the thread.
	CallThreadHangup
)

var callNames = [...]string{"other", "bind", "listen", "accept", "rt_sigaction", "sigaction", "unlink", "rename",
	"setsockopt", "close", "connect", "kill", "tgkill"}

func (c Call) String() string {
	if int(c) < len(callNames) {
		return callNames[c]
	}
	return fmt.Sprintf("call(%d)", uint8(c))
}

// The audit architecture numbers of the ABIs that the filter covers
// (include/uapi/linux/audit.h).
const (
	ArchX86_64  uint32 = unix.AUDIT_ARCH_X86_64
	ArchI386    uint32 = unix.AUDIT_ARCH_I386
	ArchAArch64 uint32 = unix.AUDIT_ARCH_AARCH64
	ArchARM     uint32 = unix.AUDIT_ARCH_ARM
)

// x32Bit marks a call of the x32 ABI, which shares x86-64's architecture
// number (__X32_SYSCALL_BIT in arch/x86/include/uapi/asm/unistd.h).
const x32Bit = 0x40000000

// socketcall is i386's multiplexer: its first argument names the call, its
// second points to the call's arguments, 32 bits each (socketcall(2)).
const (
	i386Socketcall = 102

	socketcallBind    = 2
	socketcallConnect = 3
	socketcallListen  = 4
	socketcallAccept  = 5
	socketcallAccept4 = 18
)

// The numbers are written out because x/sys has those of the machine that is
// compiled for only, while a filter covers every ABI of the machine. Sources:
// arch/x86/entry/syscalls/syscall_{64,32}.tbl, arch/arm/tools/syscall.tbl,
// include/uapi/asm-generic/unistd.h.
var callNumbers = map[uint32]map[int32]Call{
	ArchX86_64: {
		49: CallBind, 50: CallListen, 43: CallAccept, 288: CallAccept, 13: CallSigaction,
		x32Bit | 49: CallBind, x32Bit | 50: CallListen, x32Bit | 43: CallAccept,
		x32Bit | 288: CallAccept, x32Bit | 512: CallSigaction,
		87: CallUnlink, 263: CallUnlink, 82: CallRename, 264: CallRename, 316: CallRename, 54: CallSteer, x32Bit | 541: CallSteer,
		3: CallClose, x32Bit | 3: CallClose, 42: CallConnect, x32Bit | 42: CallConnect,
		x32Bit | 87: CallUnlink, x32Bit | 263: CallUnlink,
		x32Bit | 82: CallRename, x32Bit | 264: CallRename, x32Bit | 316: CallRename,
		62: CallHangup, 200: CallHangup, 129: CallHangup, 234: CallThreadHangup, 297: CallThreadHangup,
		x32Bit | 62: CallHangup, x32Bit | 200: CallHangup, x32Bit | 524: CallHangup,
		x32Bit | 234: CallThreadHangup, x32Bit | 536: CallThreadHangup,
	},
	ArchI386: {
		361: CallBind, 363: CallListen, 364: CallAccept, 174: CallSigaction, 67: CallOldSigaction,
		10: CallUnlink, 301: CallUnlink, 38: CallRename, 302: CallRename, 353: CallRename, 366: CallSteer,
		6: CallClose, 362: CallConnect,
		37: CallHangup, 238: CallHangup, 178: CallHangup, 270: CallThreadHangup, 335: CallThreadHangup,
	},
	ArchAArch64: {
		200: CallBind, 201: CallListen, 202: CallAccept, 242: CallAccept, 134: CallSigaction,
		35: CallUnlink, 38: CallRename, 276: CallRename, 208: CallSteer, 57: CallClose, 203: CallConnect, // it never had unlink and rename
		129: CallHangup, 130: CallHangup, 138: CallHangup, 131: CallThreadHangup, 240: CallThreadHangup,
	},
	ArchARM: {
		282: CallBind, 284: CallListen, 285: CallAccept, 366: CallAccept, 174: CallSigaction, 67: CallOldSigaction,
		10: CallUnlink, 328: CallUnlink, 38: CallRename, 329: CallRename, 382: CallRename, 294: CallSteer,
		6: CallClose, 283: CallConnect,
		37: CallHangup, 238: CallHangup, 178: CallHangup, 268: CallThreadHangup, 363: CallThreadHangup,
	},
}

// The calls whose paths are relative to the working directory, and the one that has directories but no flags. They
// are presented as their successors: see [Request.Args].
var (
	plainPathCalls = map[uint32]map[int32]struct{}{
		ArchX86_64: {87: {}, 82: {}, x32Bit | 87: {}, x32Bit | 82: {}},
		ArchI386:   {10: {}, 38: {}},
		ArchARM:    {10: {}, 38: {}},
	}
	renameatNumbers = map[uint32]map[int32]struct{}{
		ArchX86_64:  {264: {}, x32Bit | 264: {}},
		ArchI386:    {302: {}},
		ArchAArch64: {38: {}},
		ArchARM:     {329: {}},
	}
)

var socketcalls = map[uint32]struct {
	Call
	arguments int // at most four (nargs in net/socket.c)
}{
	socketcallBind:    {CallBind, 3},
	socketcallConnect: {CallConnect, 3},
	socketcallListen:  {CallListen, 2},
	socketcallAccept:  {CallAccept, 3},
	socketcallAccept4: {CallAccept, 4},
}

// callOf decodes a call's number.
func callOf(arch uint32, number int32) Call {
	return callNumbers[arch][number]
}
