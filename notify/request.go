package notify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// ErrTargetGone says that the thread that made a call is gone, or that a
// signal took it out of the call, so that nobody waits for the answer. It is
// normal and never worth an error line.
var ErrTargetGone = errors.New("the calling thread no longer waits for the answer")

// Request is one notified call. It is valid until the handler returns, or until it is answered where that is [Later].
type Request struct {
	ID     uint64
	TID    int // the calling thread, in the supervisor's PID namespace
	Call   Call
	Number int32 // as made, in the ABI of Arch
	Arch   uint32
	// Args are as passed, but that i386's socketcall is already unpacked, and that unlink, rename
	// and renameat have become unlinkat and renameat2, with AT_FDCWD and without flags.
	Args [6]uint64

	listener *Listener
}

// FD is the call's first argument as the kernel takes it: an int.
func (r *Request) FD() int { return r.Int(0) }

// Int is an argument as the kernel takes an int: what is above it in the register does not count.
func (r *Request) Int(i int) int { return int(int32(r.Args[i])) }

// Compat tells whether the call was made in an ABI with 32-bit pointers, whose
// structures have the compat layout: i386, arm, and x32 on x86-64.
func (r *Request) Compat() bool {
	return r.Arch == ArchI386 || r.Arch == ArchARM || r.Arch == ArchX86_64 && r.Number&x32Bit != 0
}

func (r *Request) String() string {
	return fmt.Sprintf("%s(%d) of thread %d", r.Call, r.FD(), r.TID)
}

// Valid tells whether the calling thread still waits for the answer. What was
// read from its memory or from /proc before Valid returned true was the right
// process's: an id is never reused, a thread id may be (seccomp_unotify(2),
// SECCOMP_IOCTL_NOTIF_ID_VALID).
func (r *Request) Valid() bool {
	id := r.ID
	return r.listener.with(func(fd int) unix.Errno { return ioctlIsValid(fd, &id) }) == 0
}

// Answer answers a call for which the handler returned [Later]. Where nobody waits any more it does nothing.
func (r *Request) Answer(reply Reply) {
	send := reply.raw(r.ID)
	for {
		// ENOENT: the caller is gone, or was taken out of its call. Nothing
		// else can come back for a well-formed answer.
		errno := r.listener.with(func(fd int) unix.Errno { return ioctlSend(fd, &send) })
		if errno != unix.EINTR {
			return
		}
	}
}

// ReadMemory copies len(buf) bytes at addr of the caller's address space
// (process_vm_readv(2); needs ptrace access to the caller). It returns
// [ErrTargetGone] when the caller did not wait any more afterwards: the bytes
// could then be another process's.
func (r *Request) ReadMemory(addr uint64, buf []byte) error {
	err := proc.ReadMemory(r.TID, addr, buf)
	if !r.Valid() {
		return ErrTargetGone
	}
	return err
}

// WriteMemory copies buf to addr of the caller's address space
// (process_vm_writev(2)).
func (r *Request) WriteMemory(addr uint64, buf []byte) error {
	if !r.Valid() {
		return ErrTargetGone
	}
	return proc.WriteMemory(r.TID, addr, buf)
}

// Plant puts a duplicate of source, a descriptor of the supervisor's, at number
// at of the caller, in place of what is there. The caller stays in its call.
// source stays the supervisor's. It returns [ErrTargetGone] where nobody waits.
//
// ADDFD_FLAG_SEND is not used: it would make the call return the descriptor's
// number, and bind and listen return 0 (seccomp_unotify(2); Linux 5.9).
func (r *Request) Plant(source, at int, cloexec bool) error {
	_, err := r.addFD(rawAddFD{Flags: unix.SECCOMP_ADDFD_FLAG_SETFD, SrcFD: uint32(source), NewFD: uint32(at)}, cloexec)
	return err
}

// PlantAnew puts a close-on-exec duplicate of source at a free number of the caller, which it returns.
func (r *Request) PlantAnew(source int) (int, error) {
	return r.addFD(rawAddFD{SrcFD: uint32(source)}, true)
}

func (r *Request) addFD(add rawAddFD, cloexec bool) (int, error) {
	add.ID = r.ID
	if cloexec {
		add.NewFDFlags = unix.O_CLOEXEC
	}
	for {
		var at int
		errno := r.listener.with(func(fd int) (errno unix.Errno) {
			at, errno = ioctlPlant(fd, &add)
			return errno
		})
		switch errno {
		case 0:
			return at, nil
		case unix.EINTR:
			// Waiting for the target was interrupted; it was not installed.
			continue
		case unix.ENOENT, unix.EINPROGRESS:
			return -1, ErrTargetGone
		default:
			return -1, fmt.Errorf("cannot plant a descriptor in thread %d: %w", r.TID, os.NewSyscallError("SECCOMP_IOCTL_NOTIF_ADDFD", errno))
		}
	}
}

// decode fills in which call it is. For i386's socketcall the arguments are in
// the caller's memory; where they can't be read the call stays CallOther, and
// runs.
func (r *Request) decode() {
	r.Call = callOf(r.Arch, r.Number)
	if r.Call == CallUnlink || r.Call == CallRename {
		r.decodePaths()
		return
	}
	if r.Arch == ArchI386 && r.Number == i386Socketcall {
		r.decodeSocketcall(r.ReadMemory)
	}
}

func (r *Request) decodeSocketcall(read func(addr uint64, buf []byte) error) {
	call, ok := socketcalls[uint32(r.Args[0])]
	if !ok {
		return
	}
	var words [4 * 4]byte
	if read(uint64(uint32(r.Args[1])), words[:4*call.arguments]) != nil {
		return
	}
	r.Call, r.Args = call.Call, [6]uint64{}
	for i := range call.arguments {
		r.Args[i] = uint64(binary.LittleEndian.Uint32(words[4*i:]))
	}
}
