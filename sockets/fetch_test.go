package sockets

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// bystander is a process of no generation: a puppet without a filter. It is ended with the test.
func bystander(t *testing.T) int {
	t.Helper()
	var pid int
	onMain(func() {
		process, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], puppets.Name, "0"},
			&os.ProcAttr{Files: []*os.File{pipeEnd(t), nil, os.Stderr}})
		if err != nil {
			t.Error(err)
			return
		}
		pid = process.Pid
		t.Cleanup(func() {
			_ = process.Kill()
			_, _ = process.Wait()
		})
	})
	if pid == 0 {
		t.FailNow()
	}
	return pid
}

// pipeEnd is what a program can wait on for the length of the test.
func pipeEnd(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r
}

// A descriptor is copied out of a process by the process itself, which keeps everything as it was.
func TestFetch(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		g := launch(t, 1, level, nil, knocks, 1)
		s := g.listenOn(t, loopback, unix.SOCK_NONBLOCK)
		high := 900
		g.Must(t, 0, unix.SYS_DUP3, s.fd, high, unix.O_CLOEXEC)
		w := g.worker(t, s.fd)
		tid := g.Must(t, 1, unix.SYS_GETTID)
		waiting := g.Begin(t, 1, unix.SYS_PPOLL, pollFD(s.fd), 1, 0, 0, 8)
		waitsIn(t, g.puppet, tid, unix.SYS_PPOLL)
		sockets := openSockets(t, g.PID)
		for _, from := range []struct{ pid, fd int }{{g.PID, s.fd}, {g.PID, high}, {w.PID, s.fd}} {
			for range 5 {
				fd, err := knocks.fetch(from.pid, from.fd, fdpass.Socket)
				if err != nil {
					t.Fatal(err)
				}
				var st unix.Stat_t
				if err := unix.Fstat(fd, &st); err != nil || st.Ino != g.inode(t, s.fd) {
					t.Errorf("descriptor %d of process %d: inode %d, %v", from.fd, from.pid, st.Ino, err)
				}
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("the copy is not close-on-exec: %d, %v", flags, err)
				}
				unix.Close(fd)
			}
		}
		// What is no socket is copied as well: an epoll set.
		set := g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
		fd, err := knocks.fetch(g.PID, set, proc.IsEpoll)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		g.Must(t, 0, unix.SYS_CLOSE, set)
		if _, err := knocks.fetch(g.PID, 1234, fdpass.Socket); !errors.Is(err, unix.EBADF) {
			t.Errorf("a descriptor that is not open: %v", err)
		}
		if now := openSockets(t, g.PID); now != sockets {
			t.Errorf("%d sockets are open, %d were before", now, sockets)
		}
		if waiting.Returned() {
			t.Errorf("ppoll has returned: %+v", waiting.Wait(t))
		}
		dial(t, s.addr)
		if got := waiting.Wait(t); got.Value != 1 {
			t.Errorf("ppoll: %+v", got)
		}
		knocks.empty(t)
	})
}

func pollFD(fd int) []byte { return []byte{byte(fd), byte(fd >> 8), 0, 0, unix.POLLIN, 0, 0, 0} }

// empty checks that nobody is expected to knock any more.
func (k *Knocks) empty(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.expected) != 0 {
		t.Errorf("still expected: %v", k.expected)
	}
}

// Processes that nothing can be fetched from, and that are of no generation: an error, and nothing is left behind.
func TestKnockInVain(t *testing.T) {
	t.Parallel()
	knocks := NewKnocks()
	stranger := bystander(t)
	if _, err := knocks.fetch(stranger, 0, func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), "plant") {
		t.Errorf("fetch from a process without a filter: %v", err)
	}
	if n, err := knocks.Generation(stranger); err == nil {
		t.Errorf("a process without a filter is of generation %d", n)
	}
	if _, err := knocks.fetch(1<<22, 0, fdpass.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("fetch from nobody: %v", err)
	}
	if _, err := knocks.Generation(1 << 22); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the generation of nobody: %v", err)
	}
	f, err := remote.Freeze(stranger, freezeLimit)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() { // another thread than the one that holds it
		_, err := knocks.Generation(stranger)
		result <- err
	}()
	if err := <-result; !errors.Is(err, remote.ErrDenied) {
		t.Errorf("the generation of one that is traced by another: %v", err)
	}
	f.Thaw()
	knocks.empty(t)
}

// Of two generations that live at once each process knocks at its own, the leader or another, whatever it did to its session. A
// listen(-1) of the service's own is none.
func TestKnockTellsTheGeneration(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		for number := 1; number <= 2; number++ {
			g := launch(t, number, level, nil, knocks, 1)
			w := g.worker(t)
			t.Cleanup(func() { _ = unix.Kill(w.PID, unix.SIGKILL) }) // it leaves the group that is killed
			w.Must(t, 0, unix.SYS_SETSID)
			if r := g.Call(t, 0, unix.SYS_LISTEN, -1, 0); r.Errno != unix.EBADF {
				t.Errorf("listen(-1): %v", r.Errno)
			}
			blocked := g.Begin(t, 3, unix.SYS_EPOLL_PWAIT, g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0), make([]byte, 16), 1, -1, 0, 8)
			for _, pid := range []int{g.PID, w.PID} {
				if st, err := proc.ReadStat(pid); err != nil || pid == w.PID && st.Session != w.PID {
					t.Fatalf("%+v, %v", st, err)
				}
				if got, err := knocks.Generation(pid); err != nil || got != number {
					t.Errorf("process %d of generation %d is of generation %d, %v", pid, number, got, err)
				}
			}
			if blocked.Returned() {
				t.Errorf("epoll_pwait has returned: %+v", blocked.Wait(t))
			}
		}
		knocks.empty(t)
	})
}

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
			what fdpass.Kind
			err  error
		}{
			"a socket":                  {s.fd, fdpass.Socket, nil},
			"an epoll set":              {set, proc.IsEpoll, nil},
			"a file":                    {file, fdpass.Socket, sockaddr.ErrNotPreservable},
			"a file for an epoll set":   {file, proc.IsEpoll, sockaddr.ErrNotPreservable},
			"a socket for an epoll set": {s.fd, proc.IsEpoll, sockaddr.ErrNotPreservable},
			"nothing":                   {1 << 10, fdpass.Socket, unix.EBADF},
		} {
			for way, copyOf := range map[string]fdpass.Copier{"pidfd_getfd": fdpass.Copy, "sent": knocks.fetch} {
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
