package abi

import "fmt"

// Call names a system call, whatever its number is.
type Call uint8

// The calls that huptime makes in a process, and those that it tells apart when a thread is in one.
const (
	Other Call = iota // none of these
	Getpid
	Close
	Listen
	Sendmsg
	EpollCtl

	Accept // accept and accept4
	Poll
	Ppoll
	Select
	Pselect6
	EpollWait // epoll_wait, epoll_pwait and epoll_pwait2
	Futex
	Recv          // what takes from a descriptor, its first argument: recvfrom, recvmsg, recvmmsg, read, readv
	Interruptible // others that can answer EINTR to a stop, and have done nothing then (signal(7))
	Sigaction     // rt_sigaction
)

var callNames = [...]string{"other", "getpid", "close", "listen", "sendmsg", "epoll_ctl",
	"accept", "poll", "ppoll", "select", "pselect6", "epoll_wait", "futex", "recv", "interruptible", "rt_sigaction"}

func (c Call) String() string {
	if int(c) < len(callNames) {
		return callNames[c]
	}
	return fmt.Sprintf("call(%d)", uint8(c))
}

// The numbers are written out because x/sys has those of the machine that is compiled for only. Sources:
// arch/x86/entry/syscalls/syscall_{64,32}.tbl, arch/arm/tools/syscall.tbl, include/uapi/asm-generic/unistd.h.
// What has several numbers (a time of 64 bits, for one) takes the same arguments in all of them, as far as descriptors go.
var calls = map[ABI]map[int64]Call{
	AMD64: {
		39: Getpid, 3: Close, 50: Listen, 46: Sendmsg, 233: EpollCtl, 13: Sigaction,
		43: Accept, 288: Accept, 7: Poll, 271: Ppoll, 23: Select, 270: Pselect6,
		232: EpollWait, 281: EpollWait, 441: EpollWait, 202: Futex,
		128: Interruptible, 65: Interruptible, 220: Interruptible, // rt_sigtimedwait, semop, semtimedop
		208: Interruptible, 333: Interruptible, 426: Interruptible, // io_getevents, io_pgetevents, io_uring_enter
		0: Recv, 19: Recv, 45: Recv, 47: Recv, 299: Recv, // read, readv, recvfrom, recvmsg, recvmmsg
		42: Interruptible,                                       // connect
		1:  Interruptible, 20: Interruptible, 44: Interruptible, // write, writev, sendto
	},
	// select's old number, 82, has its arguments in memory; it is left out, for no library has used it in this century.
	I386: {
		20: Getpid, 6: Close, 363: Listen, 370: Sendmsg, 255: EpollCtl, 174: Sigaction,
		364: Accept, 168: Poll, 309: Ppoll, 414: Ppoll, 142: Select, 308: Pselect6, 413: Pselect6,
		256: EpollWait, 319: EpollWait, 441: EpollWait, 240: Futex, 422: Futex,
		177: Interruptible, 421: Interruptible, 420: Interruptible, // rt_sigtimedwait, semtimedop
		247: Interruptible, 385: Interruptible, 416: Interruptible, 426: Interruptible, // io_getevents, io_pgetevents, io_uring_enter
		3: Recv, 145: Recv, 371: Recv, 372: Recv, 337: Recv, 417: Recv, // read, readv, recvfrom, recvmsg, recvmmsg
		362: Interruptible,                                         // connect
		4:   Interruptible, 146: Interruptible, 369: Interruptible, // write, writev, sendto
	},
	ARM64: {
		172: Getpid, 57: Close, 201: Listen, 211: Sendmsg, 21: EpollCtl, 134: Sigaction,
		202: Accept, 242: Accept, 73: Ppoll, 72: Pselect6, 22: EpollWait, 441: EpollWait, 98: Futex,
		137: Interruptible, 193: Interruptible, 192: Interruptible, // rt_sigtimedwait, semop, semtimedop
		4: Interruptible, 292: Interruptible, 426: Interruptible, // io_getevents, io_pgetevents, io_uring_enter
		63: Recv, 65: Recv, 207: Recv, 212: Recv, 243: Recv, // read, readv, recvfrom, recvmsg, recvmmsg
		203: Interruptible,                                        // connect
		64:  Interruptible, 66: Interruptible, 206: Interruptible, // write, writev, sendto
	},
	ARM: {
		20: Getpid, 6: Close, 284: Listen, 296: Sendmsg, 251: EpollCtl, 174: Sigaction,
		285: Accept, 366: Accept, 168: Poll, 336: Ppoll, 414: Ppoll, 142: Select, 335: Pselect6, 413: Pselect6,
		252: EpollWait, 346: EpollWait, 441: EpollWait, 240: Futex, 422: Futex,
		3: Recv, 145: Recv, 292: Recv, 297: Recv, 365: Recv, // read, readv, recvfrom, recvmsg, recvmmsg
	},
}

// x32Bit marks a call of the x32 ABI (__X32_SYSCALL_BIT in arch/x86/include/uapi/asm/unistd.h). The calls of the
// table have the same numbers there but for that bit, save sendmsg; and what an x32 process is made to run is
// amd64's.
const x32Bit = 0x40000000

// i386's multiplexer: its first argument names the call, its second points to the call's arguments (socketcall(2)).
const (
	socketcall = 102

	socketcallConnect  = 3
	socketcallAccept   = 5
	socketcallSend     = 9
	socketcallRecv     = 10
	socketcallSendto   = 11
	socketcallRecvfrom = 12
	socketcallSendmsg  = 16
	socketcallRecvmsg  = 17
	socketcallAccept4  = 18
	socketcallRecvmmsg = 19
)

// Call tells which call a number stands for; first is the call's first argument, which decides where a number is several.
func (a ABI) Call(number int64, first uint64) Call {
	switch {
	case a == AMD64:
		number &^= x32Bit
	case a.InMemory(number):
		switch first {
		case socketcallAccept, socketcallAccept4:
			return Accept
		case socketcallRecv, socketcallRecvfrom, socketcallRecvmsg, socketcallRecvmmsg:
			return Recv
		case socketcallConnect, socketcallSend, socketcallSendto, socketcallSendmsg:
			return Interruptible
		}
		return Other
	}
	return calls[a][number]
}

// InMemory tells whether a call's own arguments are in memory, 32 bits each, where its second argument points to.
func (a ABI) InMemory(number int64) bool { return a == I386 && number == socketcall }

// Number is what a call is made by. It is not ok for a call that the ABI has not, or has in several forms.
func (a ABI) Number(c Call) (number int64, ok bool) {
	for n, call := range calls[a] {
		if call == c {
			if ok {
				return 0, false
			}
			number, ok = n, true
		}
	}
	return number, ok && c != Other
}
