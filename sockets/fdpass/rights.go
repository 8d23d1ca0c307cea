package fdpass

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/remote"
)

// Send makes the process send one descriptor and one byte over over.
func Send(f *remote.Frozen, over, fd int) error {
	code, err := f.ABI()
	if err != nil {
		return err
	}
	size := len(code.Rights(0, fd))
	return f.WithSpace(size, func(addr uint64) []byte {
		return code.Rights(addr, fd)
	}, func(addr uint64) error {
		_, err := f.Call(abi.Sendmsg, uintptr(over), uintptr(addr), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return err
	})
}

// Receive takes what was sent. Whoever shares the table of the process, and is not frozen, could have sent something else.
func Receive(from int, link string) (int, error) {
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(from, buf, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, os.NewSyscallError("recvmsg", unix.EBADMSG)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		for _, fd := range fds {
			discard(fd)
		}
		return -1, os.NewSyscallError("recvmsg", unix.EBADMSG)
	}
	if err := sameAs(fds[0], link); err != nil {
		return -1, err
	}
	return fds[0], nil
}
