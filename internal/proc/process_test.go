package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	const tail = " 0 -1 4194304 102 0 0 0 1 2 3 4 20 0 1 0 534984 3133440 358 18446744073709551615\n"
	good := func(comm string) Stat {
		return Stat{PID: 42, Comm: comm, State: 'S', PPID: 1, PGRP: 40, Session: 39, StartTime: 534984}
	}
	for _, test := range []struct {
		name, text string
		want       Stat
		ok         bool
	}{
		{"plain", "42 (cat) S 1 40 39" + tail, good("cat"), true},
		{"blank", "42 (tmux: server) S 1 40 39" + tail, good("tmux: server"), true},
		{"a forged end", "42 (a) R 7 7 7) S 1 40 39" + tail, good("a) R 7 7 7"), true},
		{"parentheses", "42 (((sd-pam))) S 1 40 39" + tail, good("((sd-pam))"), true},
		{"newlines", "42 (\n)\n( ) S 1 40 39" + tail, good("\n)\n( "), true},
		{"no name", "42 () S 1 40 39" + tail, good(""), true},
		{"no terminal", "42 (cat) S 1 40 39 0 -1 4194304 102 0 0 0 1 2 3 4 -2 -5 1 0 534984", good("cat"), true},
		{"parent outside", "42 (cat) Z 0 0 0 0 -1" + strings.Repeat(" 0", 13) + " 7", Stat{PID: 42, Comm: "cat", State: 'Z', StartTime: 7}, true},
		{"cut before the start time", "42 (cat) S 1 40 39 0 -1 4194304 102 0 0 0 1 2 3 4 20 0 1 0", Stat{}, false},
		{"cut in the name", "42 (cat", Stat{}, false},
		{"no state", "42 (cat) ", Stat{}, false},
		{"long state", "42 (cat) SS 1 40 39" + tail, Stat{}, false},
		{"letters", "42 (cat) S 1 4x 39" + tail, Stat{}, false},
		{"parent of more than 31 bits", "42 (cat) S 2147483648 40 39" + tail, Stat{}, false},
		{"start time of more than 64 bits", "42 (cat) S 1 40 39 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 18446744073709551616", Stat{}, false},
		{"no id", "(cat) S 1 40 39" + tail, Stat{}, false},
		{"brackets the wrong way", "42 ()", Stat{}, false},
		{"empty", "", Stat{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := ParseStat([]byte(test.text))
			if s != test.want || (err == nil) != test.ok {
				t.Fatalf("%+v, %v; want %+v", s, err, test.want)
			}
			if err != nil && !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is no ErrFormat", err)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (cat) S 1 40 39 0 -1 4194304 102 0 0 0 1 2 3 4 20 0 1 0 534984 3133440"), "a) R 1 (")
	f.Add([]byte("42 (\n"), "\n")
	f.Fuzz(func(t *testing.T, b []byte, comm string) {
		if s, err := ParseStat(b); err != nil && s != (Stat{}) {
			t.Fatalf("%v and %+v", err, s)
		}
		want := Stat{PID: 1, Comm: comm, State: 'R', PPID: 2, PGRP: 3, Session: 4, StartTime: 5}
		text := fmt.Sprintf("1 (%s) R 2 3 4%s 5 6 7", comm, strings.Repeat(" 0", 15))
		if s, err := ParseStat([]byte(text)); err != nil || s != want {
			t.Fatalf("%q: %+v, %v", text, s, err)
		}
	})
}

func TestParseTgid(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want int
	}{
		{"Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t4702\nNgid:\t0\n", 4702},
		{"Name:\tTgid:\t1\nTgid:\t2\n", 2},
		{"Name:\ta\\nTgid:\t1\nTgid:\t2\n", 2},
		{"Name:\tcat\nTgid:\t\n", 0},
		{"Name:\tcat\nTgid:\t0\n", 0},
		{"Name:\tcat\nTgid:\t-3\n", 0},
		{"Name:\tcat\nTgid:\t3x\n", 0},
		{"Name:\tcat\n", 0},
		{"", 0},
	} {
		n, err := parseTgid([]byte(test.text))
		if n != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%q: %d, %v; want %d", test.text, n, err, test.want)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, tid := os.Getpid(), unix.Gettid()
	if tgid, err := Tgid(tid); tgid != pid || err != nil {
		t.Errorf("Tgid(%d) = %d, %v; want %d", tid, tgid, err, pid)
	}
	session, _ := unix.Getsid(0)
	s, err := ReadStat(pid)
	if err != nil || s.PID != pid || s.PPID != os.Getppid() || s.PGRP != unix.Getpgrp() || s.Session != session || s.StartTime == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if state, err := ThreadState(pid, tid); state != 'R' || err != nil {
		t.Errorf("state %c, %v of the thread that asks", state, err)
	}
	threads, err := Threads(pid)
	if err != nil || !slices.Contains(threads, tid) || !slices.Contains(threads, pid) || !slices.IsSorted(threads) {
		t.Errorf("threads %v, %v; want %d and %d among them", threads, err, tid, pid)
	}
	all, err := Processes()
	if err != nil || !slices.Contains(all, pid) || !slices.IsSorted(all) {
		t.Errorf("processes %v, %v; want %d among them", all, err, pid)
	}
	if tid != pid && slices.Contains(all, tid) {
		t.Errorf("thread %d is listed as a process", tid)
	}
}

func TestChild(t *testing.T) {
	t.Parallel()
	pid := child(t, &unix.SysProcAttr{Setpgid: true}).Process.Pid
	s, err := ReadStat(pid)
	if err != nil || s.PID != pid || s.Comm != "cat" || s.PPID != os.Getpid() || s.PGRP != pid {
		t.Errorf("%+v, %v", s, err)
	}
	if own, err := ReadStat(os.Getpid()); err != nil || own.StartTime > s.StartTime {
		t.Errorf("started at %d, %v, after its child at %d", own.StartTime, err, s.StartTime)
	}
	if comm, err := ReadComm(pid); comm != "cat" || err != nil {
		t.Errorf("comm %q, %v", comm, err)
	}
	until(t, "cat waits", func() bool { state, err := ThreadState(pid, pid); return state == 'S' && err == nil })
}

// Not parallel: there is one name.
func TestComm(t *testing.T) {
	pid := os.Getpid()
	old, err := ReadComm(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := SetComm(old); err != nil {
			t.Error(err)
		}
	}()
	for name, want := range map[string]string{
		"nginx":               "nginx",
		"fifteen bytes..":     "fifteen bytes..",
		"sixteen bytes...":    "sixteen bytes..",
		") R 1 (\nTgid:\t1\n": ") R 1 (\nTgid:\t1",
		"a\n\n":               "a\n\n",
	} {
		if err := SetComm(name); err != nil {
			t.Fatal(err)
		}
		if comm, err := ReadComm(pid); comm != want || err != nil {
			t.Errorf("%q: comm %q, %v; want %q", name, comm, err, want)
		}
		if s, err := ReadStat(pid); s.Comm != want || s.PID != pid || err != nil {
			t.Errorf("%q: stat %+v, %v", name, s, err)
		}
		if tgid, err := Tgid(pid); tgid != pid || err != nil {
			t.Errorf("%q: Tgid %d, %v", name, tgid, err)
		}
	}
	if err := SetComm(""); err == nil {
		t.Error("an empty name was accepted")
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	pid := gone(t)
	for name, read := range map[string]func() error{
		"Tgid":             func() error { _, err := Tgid(pid); return err },
		"ReadStat":         func() error { _, err := ReadStat(pid); return err },
		"Threads":          func() error { _, err := Threads(pid); return err },
		"ThreadState":      func() error { _, err := ThreadState(pid, pid); return err },
		"Descriptors":      func() error { _, err := Descriptors(pid); return err },
		"DescriptorSocket": func() error { _, _, err := DescriptorSocket(pid, 0); return err },
		"ReadFDInfo":       func() error { _, err := ReadFDInfo(pid, 0); return err },
		"ReadSyscall":      func() error { _, err := ReadSyscall(pid, pid); return err },
		"NetNS":            func() error { _, err := NetNS(pid); return err },
		"ReadComm":         func() error { _, err := ReadComm(pid); return err },
		"closed fd":        func() error { _, _, err := DescriptorSocket(os.Getpid(), 1<<20); return err },
		"closed fdinfo":    func() error { _, err := ReadFDInfo(os.Getpid(), 1<<20); return err },
		"foreign thread":   func() error { _, err := ThreadState(os.Getpid(), os.Getppid()); return err },
	} {
		if err := read(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if holders, opaque := Holders([]int{pid}, map[uint64]struct{}{1: {}}); len(holders)+len(opaque) != 0 {
		t.Errorf("Holders: %v, %v", holders, opaque)
	}
}

// The process ends between open and read: the kernel says ESRCH.
func TestGoneWhileOpen(t *testing.T) {
	t.Parallel()
	cmd := child(t, nil)
	fd, err := open(path(cmd.Process.Pid, "/stat"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	var b [16]byte
	if _, err := read(fd, b[:]); err != unix.ESRCH || !errors.Is(cannotRead("it", err), os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
