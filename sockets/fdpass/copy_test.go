package fdpass

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

func TestCopy(t *testing.T) {
	t.Parallel()
	fd := puppets.OpenSocket(t, unix.AF_INET, unix.SOCK_STREAM, 0)
	dup, err := CopySocket(os.Getpid(), fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dup)
	if dup == fd || puppets.SocketInode(t, dup) != puppets.SocketInode(t, fd) {
		t.Errorf("%d is no copy of %d", dup, fd)
	}
	if flags, _ := unix.FcntlInt(uintptr(dup), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("a service that is started now would get the copy")
	}
	if _, err := CopySocket(os.Getpid(), 1<<20); !errors.Is(err, unix.EBADF) {
		t.Errorf("a closed number: %v", err)
	}
	if _, err := CopySocket(1<<22+1, 0); !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("no process: %v", err)
	}
}

// TestFaultD6Exchanged: the number was used again between the look and the copy.
func TestFaultD6Exchanged(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	dup, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameAs(dup, "socket:[1]"); !errors.Is(err, unix.EBADF) {
		t.Errorf("%v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); stuck.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the copy is not closed")
		}
	}
	if _, err := unix.FcntlInt(uintptr(dup), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the copy is open: %v", err)
	}
}
