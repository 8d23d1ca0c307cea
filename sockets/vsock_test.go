package sockets

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// freeVsockPort skips the test where the kernel has no AF_VSOCK.
func freeVsockPort(t *testing.T, kind int) uint32 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_VSOCK, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("unsupported here: AF_VSOCK:", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY}); err != nil {
		t.Skip("unsupported here: AF_VSOCK: bind:", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return name.(*unix.SockaddrVM).Port
}

func rawVsock(cid, port uint32) []byte {
	b := make([]byte, sockaddr.SizeofVM)
	binary.NativeEndian.PutUint16(b, unix.AF_VSOCK)
	binary.NativeEndian.PutUint32(b[4:], port)
	binary.NativeEndian.PutUint32(b[8:], cid)
	return b
}

func (p *puppet) listenVsock(t *testing.T, kind int, port uint32) int {
	t.Helper()
	fd := p.Must(t, 0, unix.SYS_SOCKET, unix.AF_VSOCK, kind, 0)
	raw := rawVsock(unix.VMADDR_CID_ANY, port)
	p.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
	p.Must(t, 0, unix.SYS_LISTEN, fd, 16)
	return fd
}

// A whole restart. There is no client: a kernel has a loopback for these sockets only where it was built with CONFIG_VSOCKETS_LOOPBACK.
func TestVsockRestart(t *testing.T) {
	for name, kind := range map[string]int{"stream": unix.SOCK_STREAM, "seqpacket": unix.SOCK_SEQPACKET} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level notify.Level) {
				port := freeVsockPort(t, kind)
				knocks := NewKnocks()
				old := launch(t, 1, level, nil, knocks, 0)
				fd := old.listenVsock(t, kind, port)
				waiting := blocked(t, old.puppet, 1, fd)
				p := collect(t, old)
				if len(p.Sockets()) != 1 {
					t.Fatalf("%d sockets", len(p.Sockets()))
				}
				s := p.Sockets()[0]
				if want := "vsock://" + sockaddr.VM(unix.VMADDR_CID_ANY, port).String(); s.String() != want {
					t.Errorf("it is %s, want %s", s, want)
				}
				if err := s.deepen(); err != nil {
					t.Errorf("no deeper queue: %v", err)
				}
				next := launch(t, 2, level, p, knocks, 0)
				at := next.listenVsock(t, kind, port)
				if next.inode(t, at) != old.inode(t, fd) {
					t.Fatal("not planted")
				}
				if err := old.tracker.Gate(t.Context(), p.Claimed()); err != nil {
					t.Fatal(err)
				}
				p.ReleaseClaimed()
				if got := waiting.Wait(t); got.Errno != 0 { // a phantom
					t.Errorf("the gated generation's accept: %v", got.Errno)
				}
				if old.inode(t, fd) == next.inode(t, at) {
					t.Error("the old generation has the socket still")
				}
				// A connection to the outside is not of its clients.
				out := old.Must(t, 0, unix.SYS_SOCKET, unix.AF_VSOCK, kind, 0)
				if protocol, err := proc.SocketProtocol(old.PID, out); err != nil || protocol != "AF_VSOCK" {
					t.Errorf("the kernel calls it %q, %v", protocol, err)
				}
				r := &restarted{old: old, new: next, preserved: p}
				r.outstanding(t, 0)
				old.Must(t, 0, unix.SYS_CLOSE, out)
				if again := collect(t, next); len(again.Sockets()) != 1 || again.Sockets()[0].Key != s.Key {
					t.Errorf("collected again: %v", again.Sockets())
				}
			})
		})
	}
}

// Who lets the kernel choose the port never claims one.
func TestVsockChosen(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		old := launch(t, 1, level, nil, knocks, 0)
		freeVsockPort(t, unix.SOCK_STREAM)
		fd := old.listenVsock(t, unix.SOCK_STREAM, unix.VMADDR_PORT_ANY)
		p := collect(t, old)
		next := launch(t, 2, level, p, knocks, 0)
		if at := next.listenVsock(t, unix.SOCK_STREAM, unix.VMADDR_PORT_ANY); next.inode(t, at) == old.inode(t, fd) {
			t.Error("planted")
		}
	})
}
