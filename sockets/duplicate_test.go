package sockets

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"huptime/internal/proc"
	"huptime/notify"
	"huptime/sockets/sockaddr"
)

// TestFaultD6OnlySockets: what is no socket is not copied, by either way; nor is what is no epoll set where one is wanted.
func TestFaultD6OnlySockets(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		g := launch(t, 1, level, nil, knocks, 0)
		s := g.listenOn(t, loopback, 0)
		set := g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
		name := append([]byte(t.TempDir()), "/file\x00"...)
		file := g.Must(t, 0, unix.SYS_OPENAT, unix.AT_FDCWD, name, unix.O_RDWR|unix.O_CREAT, 0o600)
		for what, c := range map[string]struct {
			fd   int
			what ware
			err  error
		}{
			"a socket":                  {s.fd, aSocket, nil},
			"an epoll set":              {set, proc.IsEpoll, nil},
			"a file":                    {file, aSocket, sockaddr.ErrNotPreservable},
			"a file for an epoll set":   {file, proc.IsEpoll, sockaddr.ErrNotPreservable},
			"a socket for an epoll set": {s.fd, proc.IsEpoll, sockaddr.ErrNotPreservable},
			"nothing":                   {1 << 10, aSocket, unix.EBADF},
		} {
			for way, copyOf := range map[string]copier{"pidfd_getfd": duplicateOf, "sent": knocks.fetch} {
				fd, err := copyOf(g.PID, c.fd, c.what)
				if !errors.Is(err, c.err) {
					t.Errorf("%s, %s: %v, want %v", what, way, err, c.err)
				}
				if err == nil {
					unix.Close(fd)
				}
			}
		}
		knocks.empty(t)
	})
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
	eventually(t, "the copy is closed", func() bool { return stuck.Load() == 0 })
	if _, err := unix.FcntlInt(uintptr(dup), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the copy is open: %v", err)
	}
}
