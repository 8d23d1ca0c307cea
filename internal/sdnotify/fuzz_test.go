package sdnotify

import (
	"bytes"
	"io"
	"log/slog"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Control messages say who sent a datagram and what came with it, in whatever order, and nothing is read behind them.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("\x1c\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00"+
		"\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), int32(7), byte(0))
	f.Add([]byte("\x14\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00"),
		int32(1), byte(1))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00\x01\x00\x00\x00"), int32(-1), byte(253))
	f.Fuzz(func(t *testing.T, control []byte, pid int32, number byte) {
		given := bytes.Clone(control)
		if _, fds := unpack(control); 4*len(fds) > len(control) || !bytes.Equal(control, given) {
			t.Fatalf("%d descriptors in %x, which was %x", len(fds), control, given)
		}
		var sent []int
		for i := range int(number) {
			sent = append(sent, i^int(pid)&0xffff)
		}
		credentials := unix.UnixCredentials(&unix.Ucred{Pid: pid, Uid: uint32(number), Gid: 1})
		for _, order := range [][][]byte{{credentials, unix.UnixRights(sent...)}, {unix.UnixRights(sent...), credentials}} {
			from, fds := unpack(slices.Concat(order...))
			if from != int(pid) || !slices.Equal(fds, sent) {
				t.Fatalf("%d sent %v, want %d and %v", from, fds, pid, sent)
			}
		}
	})
}

// Whatever a process sends: it is known who it was, only a barrier's descriptor outlives the look at it, and what is
// handed on is what Parse finds in the text.
func FuzzAccept(f *testing.F) {
	f.Add([]byte("READY=1\nSTATUS=up"), byte(0))
	f.Add([]byte("BARRIER=1"), byte(1))
	f.Add([]byte("BARRIER=1\nREADY=1"), byte(2))
	f.Add([]byte("FDSTORE=1\nFDNAME=x"), byte(3))
	f.Add([]byte("READY=1\x00\x00"), byte(1))
	f.Add(bytes.Repeat([]byte("A=1\n"), 2000), byte(1))
	f.Fuzz(func(t *testing.T, text []byte, number byte) {
		if len(text) > 4*maxDatagram {
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(pair[:])
		if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
			t.Fatal(err)
		}
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[0])
		passed := slices.Repeat(pipe[1:], int(number)%5)
		err = unix.Sendmsg(pair[1], text, unix.UnixRights(passed...), nil, 0)
		unix.Close(pipe[1]) // all that is left of it is on its way
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, maxDatagram)
		control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxDescriptors))
		n, m, flags, _, err := unix.Recvmsg(pair[0], buf, control, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		s := &Socket{
			log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
			member: func(pid int) bool { asked = pid; return true },
		}
		r, ok := s.accept(buf[:n], control[:m], flags)
		want, errParse := Parse(text)
		want.PID, want.Barrier = unix.Getpid(), want.Barrier && len(passed) == 1
		good := errParse == nil && len(text) <= maxDatagram
		if ok != (good && (want.Barrier || want.says())) || ok && r.Message != want || good && asked != unix.Getpid() {
			t.Fatalf("%q with %d: %+v, %t, want %+v", text, len(passed), r.Message, ok, want)
		}
		if held := len(r.barrier) == 1; held != (ok && want.Barrier) || held == gone(t, pipe[0]) {
			t.Fatalf("%q with %d: %d are held", text, len(passed), len(r.barrier))
		}
		r.close()
		if !gone(t, pipe[0]) {
			t.Fatalf("%q with %d: one was left open", text, len(passed))
		}
	})
}

// gone tells whether nobody has a pipe's other end.
func gone(t *testing.T, pipe int) bool {
	t.Helper()
	_, err := unix.Read(pipe, make([]byte, 1))
	if err != nil && err != unix.EAGAIN {
		t.Fatal(err)
	}
	return err == nil
}
