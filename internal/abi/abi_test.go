package abi

import (
	"bytes"
	"encoding/hex"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

var all = []ABI{AMD64, I386, ARM64, ARM}

// What this machine's own kernel headers say, by way of x/sys.
func TestNativeNumbers(t *testing.T) {
	t.Parallel()
	for call, want := range map[Call]int64{
		Getpid: unix.SYS_GETPID, Close: unix.SYS_CLOSE, Listen: unix.SYS_LISTEN, Sendmsg: unix.SYS_SENDMSG, EpollCtl: unix.SYS_EPOLL_CTL,
	} {
		if n, ok := Native.Number(call); !ok || n != want {
			t.Errorf("%s is made by %d, %t; want %d", call, n, ok, want)
		}
	}
	for number, want := range map[int64]Call{
		unix.SYS_ACCEPT: Accept, unix.SYS_ACCEPT4: Accept, unix.SYS_PPOLL: Ppoll, unix.SYS_PSELECT6: Pselect6,
		unix.SYS_EPOLL_PWAIT: EpollWait, unix.SYS_EPOLL_PWAIT2: EpollWait, unix.SYS_FUTEX: Futex, unix.SYS_READ: Recv, unix.SYS_RT_SIGTIMEDWAIT: Interruptible, unix.SYS_SEMOP: Interruptible,
		unix.SYS_SEMTIMEDOP: Interruptible, unix.SYS_IO_GETEVENTS: Interruptible, unix.SYS_IO_PGETEVENTS: Interruptible, unix.SYS_IO_URING_ENTER: Interruptible,
		unix.SYS_CONNECT: Interruptible, unix.SYS_READV: Recv, unix.SYS_RECVFROM: Recv, unix.SYS_RECVMSG: Recv,
		unix.SYS_RECVMMSG: Recv, unix.SYS_WRITE: Interruptible, unix.SYS_WRITEV: Interruptible, unix.SYS_SENDTO: Interruptible,
		unix.SYS_GETPPID: Other, -1: Other,
	} {
		if got := Native.Call(number, 0); got != want {
			t.Errorf("call %d is %s, want %s", number, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		for _, call := range []Call{Getpid, Close, Listen, Sendmsg, EpollCtl} {
			n, ok := a.Number(call)
			if !ok {
				t.Errorf("%s has no %s", a, call)
			}
			if back := a.Call(n, 0); back != call {
				t.Errorf("%s: %s is made by %d, which is %s", a, call, n, back)
			}
		}
		for _, call := range []Call{Other, EpollWait, Recv, Interruptible} {
			if n, ok := a.Number(call); ok {
				t.Errorf("%s: %s is made by %d, but has several forms", a, call, n)
			}
		}
	}
	if _, ok := Unknown.Number(Getpid); ok {
		t.Error("an unknown ABI has numbers")
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		abi    ABI
		number int64
		first  uint64
		want   Call
	}{
		{I386, 102, 5, Accept}, {I386, 102, 18, Accept}, {I386, 102, 4, Other}, {I386, 102, 1<<32 | 5, Other},
		{I386, 364, 3, Accept}, {I386, 43, 3, Other}, {I386, 0, 3, Other}, {I386, 102, 12, Recv}, {I386, 177, 0, Interruptible},
		{I386, 309, 0, Ppoll}, {I386, 414, 0, Ppoll}, {I386, 308, 0, Pselect6}, {I386, 413, 0, Pselect6},
		{I386, 256, 0, EpollWait}, {I386, 319, 0, EpollWait}, {I386, 441, 0, EpollWait}, {I386, 422, 0, Futex},
		{AMD64, 102, 5, Other}, {AMD64, 43, 3, Accept}, {AMD64, x32Bit | 43, 3, Accept}, {AMD64, -1, 0, Other},
		{ARM64, 43, 0, Other}, {ARM64, 202, 0, Accept}, {ARM, 285, 0, Accept}, {ARM, 102, 5, Other},
		{Unknown, 43, 0, Other},
	} {
		if got := test.abi.Call(test.number, test.first); got != test.want {
			t.Errorf("%s %d (%d) is %s, want %s", test.abi, test.number, test.first, got, test.want)
		}
	}
}

func TestOfELF(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if got := OfELF(own[:20]); got != Native {
		t.Errorf("this program is of %s", got)
	}
	elf := func(class, machine byte) []byte {
		b := append([]byte("\x7fELF"), make([]byte, 16)...)
		b[4], b[18] = class, machine
		return b
	}
	for _, test := range []struct {
		header []byte
		want   ABI
	}{
		{elf(2, 62), AMD64}, {elf(1, 62), AMD64}, {elf(1, 3), I386}, {elf(2, 183), ARM64}, {elf(1, 40), ARM},
		{elf(2, 3), Unknown}, {elf(2, 243), Unknown}, {elf(1, 3)[:19], Unknown}, {[]byte("#!/bin/sh -- and more"), Unknown}, {nil, Unknown},
	} {
		if got := OfELF(test.header); got != test.want {
			t.Errorf("%x is of %s, want %s", test.header, got, test.want)
		}
	}
}

func TestOfAudit(t *testing.T) {
	t.Parallel()
	for arch, want := range map[uint32]ABI{0xc000003e: AMD64, 0x40000003: I386, 0xc00000b7: ARM64, 0x40000028: ARM, 0xc00000f3: Unknown} {
		if got := OfAudit(arch); got != want {
			t.Errorf("%#x is %s, want %s", arch, got, want)
		}
	}
}

func TestEpollEvent(t *testing.T) {
	t.Parallel()
	for abi, want := range map[ABI]string{
		AMD64: "01000000" + "0807060504030201", I386: "01000000" + "0807060504030201",
		ARM64: "01000000" + "00000000" + "0807060504030201", ARM: "01000000" + "00000000" + "0807060504030201",
	} {
		if got := hex.EncodeToString(abi.EpollEvent(1, 0x0102030405060708)); got != want {
			t.Errorf("%s: %s, want %s", abi, got, want)
		}
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	wide := "0000000000000000" + "00000000" + "00000000" + "3810000000000000" + "0100000000000000" + // name, iov at +56
		"4810000000000000" + "1800000000000000" + "00000000" + "00000000" + // control at +72, 24 bytes
		"6010000000000000" + "0100000000000000" + // a byte at +96
		"1400000000000000" + "01000000" + "01000000" + "07000000" + "00000000" + "00"
	narrow := "00000000" + "00000000" + "1c100000" + "01000000" + "24100000" + "10000000" + "00000000" + // iov at +28, control at +36
		"34100000" + "01000000" + // a byte at +52
		"10000000" + "01000000" + "01000000" + "07000000" + "00"
	for abi, want := range map[ABI]string{AMD64: wide, ARM64: wide, I386: narrow, ARM: narrow} {
		want, _ := hex.DecodeString(want)
		if got := abi.Rights(0x1000, 7); !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x, want\n%x", abi, got, want)
		}
	}
}

func TestStrings(t *testing.T) {
	t.Parallel()
	if s := I386.String() + Accept.String() + ABI(99).String() + Call(99).String(); s != "i386acceptabi(99)call(99)" {
		t.Error(s)
	}
	if len(names) != int(ARM)+1 || len(callNames) != int(Sigaction)+1 {
		t.Error("a name is missing")
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	b := []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4}
	if w := AMD64.Words(b); len(w) != 1 || w[0] != 2<<32+1 {
		t.Errorf("%x", w)
	}
	if w := I386.Words(b); len(w) != 3 || w[0] != 1 || w[2] != 3 {
		t.Errorf("%x", w)
	}
}
