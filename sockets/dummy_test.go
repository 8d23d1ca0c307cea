package sockets

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testDummies(t *testing.T, test func(*testing.T, *dummy)) {
	t.Parallel()
	for name, family := range map[string]int{"IPv4": unix.AF_INET, "IPv6": unix.AF_INET6} {
		for mode, nonblock := range map[string]bool{"blocking": false, "non-blocking": true} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				d, err := newDummy(Key{Type: unix.SOCK_STREAM, Address: Address{Family: uint16(family)}}, nonblock)
				if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
					t.Skipf("unsupported here: %v", err)
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(d.close)
				test(t, d)
			})
		}
	}
}

// readable tells whether the dummy has a connection within the time.
func (d *dummy) readable(t *testing.T, within time.Duration) bool {
	t.Helper()
	polled := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polled, int(within.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
}

func TestDummyCannotBeReached(t *testing.T) {
	testDummies(t, func(t *testing.T, d *dummy) {
		address, ok := SockaddrOf(d.address)
		if !ok || !address.AddrPort.Addr().IsLoopback() || address.Port() == 0 {
			t.Fatalf("%v", address)
		}
		c, err := net.DialTimeout("tcp", address.String(), 100*time.Millisecond)
		if err == nil {
			_ = c.Close()
			t.Error("connected")
		}
		if d.readable(t, 0) {
			t.Error("a connection waits")
		}
		flags, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 != d.nonblock {
			t.Errorf("flags %#x, %v", flags, err)
		}
		if d.nonblock {
			if fd, _, err := unix.Accept(d.fd); err != unix.EAGAIN {
				t.Errorf("accept: %d, %v", fd, err)
			}
		}
	})
}

// Each phantom is one connection, which reads end of file; and the dummy is as closed as before.
func TestDummyPhantom(t *testing.T) {
	testDummies(t, func(t *testing.T, d *dummy) {
		for range 3 {
			const together = 5
			for range together {
				if err := d.phantom(); err != nil {
					t.Fatal(err)
				}
			}
			for range together {
				if !d.readable(t, patience) {
					t.Fatal("no phantom")
				}
				fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := unix.Read(fd, make([]byte, 1)); n != 0 || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
				_ = unix.Close(fd)
			}
			if d.readable(t, 0) {
				t.Error("one phantom too many")
			}
		}
		address, _ := SockaddrOf(d.address)
		if c, err := net.DialTimeout("tcp", address.String(), 50*time.Millisecond); err == nil {
			_ = c.Close()
			t.Error("connected after a phantom")
		}
	})
}
