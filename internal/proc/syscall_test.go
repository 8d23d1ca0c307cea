package proc

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSyscall(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       Syscall
		ok         bool
	}{
		{"running", "running\n", Syscall{Number: -1, Running: true}, true},
		{"no call", "-1 0x7fff46961c18 0x7f1e596132ad\n", Syscall{Number: -1}, true},
		{"no stack", "-1 0x0 0x0\n", Syscall{Number: -1}, true},
		{"read", "0 0x3 0x7f1e59497000 0x20000 0x7f1e5952ab60 0xffffffff 0x0 0x7fff46961c18 0x7f1e596132ad\n",
			Syscall{Args: [6]uint64{3, 0x7f1e59497000, 0x20000, 0x7f1e5952ab60, 0xffffffff, 0}}, true},
		{"accept4", "288 0xffffffffffffffff 0x1 0x2 0x3 0x4 0x5 0x6 0x7",
			Syscall{Number: 288, Args: [6]uint64{1<<64 - 1, 1, 2, 3, 4, 5}}, true},
		{"five arguments", "0 0x1 0x2 0x3 0x4 0x5", Syscall{}, false},
		{"decimal argument", "0 1 0x2 0x3 0x4 0x5 0x6 0x7 0x8", Syscall{}, false},
		{"wide argument", "0 0x10000000000000000 0x2 0x3 0x4 0x5 0x6 0x7 0x8", Syscall{}, false},
		{"argument without digits", "0 0x 0x2 0x3 0x4 0x5 0x6 0x7 0x8", Syscall{}, false},
		{"negative", "-2 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8", Syscall{}, false},
		{"huge", "99999999999 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8", Syscall{}, false},
		{"words", "running fast", Syscall{}, false},
		{"empty", "", Syscall{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := ParseSyscall([]byte(test.text))
			if (err == nil) != test.ok || s != test.want {
				t.Fatalf("%+v, %v; want %+v", s, err, test.want)
			}
			if err != nil && !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is no ErrFormat", err)
			}
		})
	}
}

func FuzzParseSyscall(f *testing.F) {
	f.Add([]byte("running\n"))
	f.Add([]byte("288 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSyscall(b)
		if err != nil && s != (Syscall{}) {
			t.Fatalf("%v and %+v", err, s)
		}
		if s.Number < -1 || s.Running && s.Number != -1 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestReadSyscall(t *testing.T) {
	t.Parallel()
	pid := os.Getpid()
	tid, fd := blockedThread(t)
	until(t, "the thread is in read", func() bool {
		s, err := ReadSyscall(pid, tid)
		if err != nil {
			t.Fatal(err)
		}
		return !s.Running && s.Number == unix.SYS_READ && s.Args[0] == uint64(fd) && s.Args[2] == 1
	})
	if state, err := ThreadState(pid, tid); state != 'S' || err != nil {
		t.Errorf("state %c, %v", state, err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if tgid, err := Tgid(tid); tgid != pid || err != nil {
		t.Errorf("Tgid %d, %v", tgid, err)
	}
}

func BenchmarkTgid(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Tgid(os.Getpid()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDescriptorSocket(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DescriptorSocket(os.Getpid(), 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadFDInfo(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadFDInfo(os.Getpid(), 0); err != nil {
			b.Fatal(err)
		}
	}
}
