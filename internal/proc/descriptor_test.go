package proc

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// socket returns a socket's descriptor and inode number; it is closed with the test.
func socket(t *testing.T, flags int) (fd int, inode uint64) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return fd, st.Ino
}

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		link  string
		inode uint64
		ok    bool
	}{
		{"socket:[123]", 123, true},
		{"socket:[0]", 0, true},
		{"socket:[18446744073709551615]", 1<<64 - 1, true},
		{"socket:[18446744073709551616]", 0, false},
		{"socket:[123] (deleted)", 0, false},
		{"socket:[]", 0, false},
		{"socket:[-1]", 0, false},
		{"socket:[+1]", 0, false},
		{"socket:[1", 0, false},
		{"socket:[", 0, false},
		{"/socket:[1]", 0, false},
		{"pipe:[123]", 0, false},
		{"", 0, false},
	} {
		inode, ok := SocketInode(test.link)
		if ok != test.ok || ok && inode != test.inode {
			t.Errorf("%q: %d, %v", test.link, inode, ok)
		}
		inode, ok = socketInode([]byte(test.link))
		if ok != test.ok || ok && inode != test.inode {
			t.Errorf("%q as bytes: %d, %v", test.link, inode, ok)
		}
	}
	for link, want := range map[string][2]bool{
		"anon_inode:[eventpoll]": {true, false},
		"anon_inode:[io_uring]":  {false, true},
		"anon_inode:[eventfd]":   {false, false},
		"":                       {false, false},
	} {
		if got := [2]bool{IsEpoll(link), IsURing(link)}; got != want {
			t.Errorf("%q: epoll, io_uring: %v", link, got)
		}
	}
	for link, want := range map[string]uint64{"net:[4026531840]": 4026531840, "net:[]": 0, "net:[1]x": 0, "net:": 0, "pid:[1]": 0} {
		if got, err := parseNetNS([]byte(link)); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", link, got, err)
		}
	}
}

func FuzzSocketInode(f *testing.F) {
	f.Add("socket:[1]")
	f.Add("socket:[]")
	f.Fuzz(func(t *testing.T, link string) {
		inode, ok := socketInode([]byte(link))
		if again, okToo := SocketInode(link); ok != okToo || ok && again != inode {
			t.Fatalf("%q: %d, %v and %d, %v", link, inode, ok, again, okToo)
		}
		if ok && strings.TrimLeft(link[len("socket:["):], "0") != strings.TrimLeft(strconv.FormatUint(inode, 10)+"]", "0") {
			t.Fatalf("%q: %d", link, inode)
		}
	})
}

func FuzzParseDirents(f *testing.F) {
	f.Add(append(make([]byte, 16), 24, 0, 4, '1', '2', 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, n := range parseDirents(b, nil) {
			if n < 0 {
				t.Fatalf("%d", n)
			}
		}
	})
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	pid := os.Getpid()
	fd, inode := socket(t, unix.SOCK_CLOEXEC)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epoll)
	// Enough of them for the directory not to fit into one buffer.
	const many = 600
	for range many {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(dup)
	}
	list, err := Descriptors(pid)
	if err != nil {
		t.Fatal(err)
	}
	copies, epolls := 0, 0
	for _, d := range list {
		if i, ok := SocketInode(d.Link); ok && i == inode {
			copies++
		}
		if IsEpoll(d.Link) && d.Number == epoll {
			epolls++
		}
	}
	if copies != many+1 || epolls != 1 {
		t.Errorf("socket %d times, epoll set %d times", copies, epolls)
	}
	if !slices.IsSortedFunc(list, func(a, b Descriptor) int { return a.Number - b.Number }) {
		t.Error("not ascending")
	}
	if got, ok, err := DescriptorSocket(pid, fd); got != inode || !ok || err != nil {
		t.Errorf("DescriptorSocket: %d, %v, %v; want %d", got, ok, err, inode)
	}
	if got, ok, err := DescriptorSocket(pid, epoll); ok || err != nil {
		t.Errorf("DescriptorSocket of an epoll set: %d, %v, %v", got, ok, err)
	}
}

func TestHolders(t *testing.T) {
	t.Parallel()
	shared, inode := socket(t, 0)
	_, own := socket(t, unix.SOCK_CLOEXEC)
	_, unwanted := socket(t, unix.SOCK_CLOEXEC)
	// The child inherits what is not closed by exec: as descriptor 5, say.
	cmd := child(t, nil)
	holders, opaque := Holders([]int{os.Getpid(), cmd.Process.Pid, gone(t)}, map[uint64]struct{}{inode: {}, own: {}})
	if len(opaque) != 0 || len(holders) != 2 {
		t.Errorf("%v, opaque %v", holders, opaque)
	}
	for _, pid := range []int{os.Getpid(), cmd.Process.Pid} {
		if !slices.Contains(holders[inode], Holder{PID: pid, FD: shared}) {
			t.Errorf("%d holds %v", pid, holders[inode])
		}
	}
	if len(holders[own]) != 1 || holders[own][0].PID != os.Getpid() || len(holders[unwanted]) != 0 {
		t.Errorf("%v", holders)
	}
}

// A process that may not be looked into. Not parallel: to change a thread's user makes the whole process undumpable.
func TestOpaque(t *testing.T) {
	pid := 1
	done := make(chan struct{})
	go func() { // ends with its thread, which is spoilt for other use: no UnlockOSThread
		defer close(done)
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			const nobody = 65534
			pid = os.Getppid()
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				t.Errorf("setresuid: %v", errno)
				return
			}
		}
		if holders, opaque := Holders([]int{pid}, nil); len(holders) != 0 || !slices.Equal(opaque, []int{pid}) {
			t.Errorf("%v, opaque %v; want %d", holders, opaque, pid)
		}
		for name, read := range map[string]func() error{
			"Descriptors":      func() error { _, err := Descriptors(pid); return err },
			"DescriptorSocket": func() error { _, _, err := DescriptorSocket(pid, 0); return err },
			"ReadFDInfo":       func() error { _, err := ReadFDInfo(pid, 0); return err },
			"ReadSyscall":      func() error { _, err := ReadSyscall(pid, pid); return err },
			"NetNS":            func() error { _, err := NetNS(pid); return err },
		} {
			if err := read(); !errors.Is(err, os.ErrPermission) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := ReadStat(pid); err != nil {
			t.Error(err)
		}
	}()
	<-done
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Error(err)
	}
}

func TestNetNS(t *testing.T) {
	t.Parallel()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	if ns, err := NetNS(os.Getpid()); ns != st.Ino || err != nil {
		t.Errorf("%d, %v; want %d", ns, err, st.Ino)
	}
	cmd := child(t, &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	if ns, err := NetNS(cmd.Process.Pid); ns == st.Ino || ns == 0 || err != nil {
		t.Errorf("a namespace of its own: %d, %v", ns, err)
	}
}
