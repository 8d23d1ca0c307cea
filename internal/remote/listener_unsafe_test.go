package remote

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listener is the test's copy of a program's listener (seccomp_unotify(2)).
type listener struct {
	t  *testing.T
	fd int // owned until the test is over
}

// listenerOf copies it.
func (p *target) listenerOf(number int) *listener {
	p.t.Helper()
	pidfd, err := unix.PidfdOpen(p.Process.Pid, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err == unix.EPERM || err == unix.ENOSYS {
		p.t.Skipf("unsupported here: pidfd_getfd: %v", err)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { unix.Close(fd) })
	return &listener{t: p.t, fd: fd}
}

// receive takes the notification of a call, and returns its id. It waits for one.
func (l *listener) receive() (id uint64) {
	l.t.Helper()
	var notification [10]uint64 // struct seccomp_notif
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&notification))); errno != 0 {
		l.t.Error(errno)
	}
	return notification[0]
}

// answer makes the call return 0.
func (l *listener) answer(id uint64) {
	l.t.Helper()
	reply := [3]uint64{id} // struct seccomp_notif_resp
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&reply))); errno != 0 {
		l.t.Error(errno)
	}
}
