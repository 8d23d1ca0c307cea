package sockets

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

func testPlaceholders(t *testing.T, test func(*testing.T, *placeholder)) {
	t.Parallel()
	for name, key := range map[string]sockaddr.Key{
		"IPv4":      {Type: unix.SOCK_STREAM, Address: sockaddr.Address{Family: unix.AF_INET}},
		"IPv6":      {Type: unix.SOCK_STREAM, Address: sockaddr.Address{Family: unix.AF_INET6}},
		"unix":      {Type: unix.SOCK_STREAM, Address: sockaddr.Address{Family: unix.AF_UNIX}},
		"seqpacket": {Type: unix.SOCK_SEQPACKET, Address: sockaddr.Address{Family: unix.AF_UNIX}},
	} {
		for mode, nonblock := range map[string]bool{"blocking": false, "non-blocking": true} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				d, err := newPlaceholder(key, nonblock)
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

// readable tells whether the placeholder has a connection within the time.
func (d *placeholder) readable(t *testing.T, within time.Duration) bool {
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

func TestPlaceholderCannotBeReached(t *testing.T) {
	testPlaceholders(t, func(t *testing.T, d *placeholder) {
		d.try(t)
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

// Each phantom is one connection, which reads end of file; and the placeholder is as closed as before.
func TestPlaceholderPhantom(t *testing.T) {
	testPlaceholders(t, func(t *testing.T, d *placeholder) {
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
		d.try(t)
	})
}

// try tries to get a connection into the placeholder by what can be learnt of it.
func (d *placeholder) try(t *testing.T) {
	t.Helper()
	if d.family == unix.AF_UNIX {
		name, err := unix.Getsockname(d.fd)
		if err != nil {
			t.Fatal(err)
		}
		path := name.(*unix.SockaddrUnix).Name
		if path == "" || path[0] == '@' || path[0] == 0 {
			t.Fatalf("it is %q in the abstract namespace", path)
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			_ = c.Close()
			t.Errorf("connected to %q", path)
		}
	} else {
		name, err := unix.Getsockname(d.fd)
		if err != nil {
			t.Fatal(err)
		}
		address, ok := sockaddr.Of(name)
		if !ok || !address.AddrPort.Addr().IsLoopback() || address.Port() == 0 {
			t.Fatalf("%v", address)
		}
		// 255: whoever sets it on his packets looks as near as the supervisor's own.
		for _, ttl := range []int{64, farthest} {
			dialer := net.Dialer{Timeout: 100 * time.Millisecond}
			dialer.Control = func(_, _ string, c syscall.RawConn) (err error) {
				errControl := c.Control(func(fd uintptr) {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl)
				})
				return errors.Join(errControl, err)
			}
			for _, from := range []string{"127.0.0.1", "127.1.2.3"} {
				dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
				c, err := dialer.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", address.Port()))
				if err == nil {
					defer c.Close() // by the decoy, if by any
				}
			}
		}
	}
	if d.readable(t, 20*time.Millisecond) {
		t.Error("a connection waits")
	}
}

// TestFaultD1Full: where a placeholder's queue is full, one more phantom is not waited for.
func TestFaultD1Full(t *testing.T) {
	testPlaceholders(t, func(t *testing.T, d *placeholder) {
		if err := unix.Listen(d.fd, 2); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 20 {
			if err := d.phantom(); err != nil && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("20 phantoms took %v", took)
		}
	})
}

// TestFaultD1Decoy: where the kernel permits no filter, the placeholder is as closed.
func TestFaultD1Decoy(t *testing.T) {
	t.Parallel()
	for name, family := range map[string]int{"IPv4": unix.AF_INET, "IPv6": unix.AF_INET6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
			if err != nil {
				t.Skipf("unsupported here: %v", err)
			}
			d := &placeholder{fd: fd, family: family, kind: unix.SOCK_STREAM, protocol: unix.IPPROTO_TCP, let: newAdmitted(), file: -1}
			t.Cleanup(d.close)
			if err := d.openBehind(errors.New("no filter")); err != nil {
				t.Fatal(err)
			}
			d.try(t)
			for range 100 {
				if err := d.phantom(); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				if !d.readable(t, patience) {
					t.Fatal("no phantom")
				}
				c, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := unix.Read(c, make([]byte, 1)); n != 0 || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
				_ = unix.Close(c)
			}
			d.try(t)
		})
	}
}

// TestPlaceholderCopies: what one copy of a placeholder lets in, and its end, leave the others as closed and as usable.
func TestPlaceholderCopies(t *testing.T) {
	testPlaceholders(t, func(t *testing.T, d *placeholder) {
		const each, copies = 10, 12 // more than mostAdmitted
		var all sync.WaitGroup
		for range copies {
			c, err := d.copy()
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer c.close()
				for range each {
					if err := c.phantom(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for range each * copies {
			if !d.readable(t, patience) {
				t.Fatal("no phantom")
			}
			fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(fd)
		}
		d.try(t)
		if err := d.phantom(); err != nil || !d.readable(t, patience) {
			t.Errorf("no phantom: %v", err)
		}
	})
}

// TestFaultD1Admitted: a door lets as many through at once as it may.
func TestFaultD1Admitted(t *testing.T) {
	testPlaceholders(t, func(t *testing.T, d *placeholder) {
		if d.family == unix.AF_UNIX {
			return // it has no door
		}
		for port := range uint32(mostAdmitted) {
			if err := d.let.add(d.closed, port+1); err != nil {
				t.Fatalf("%d: %v", port, err)
			}
		}
		waited := make(chan error, 1)
		go func() { waited <- d.phantom() }()
		for port := range uint32(mostAdmitted) {
			if err := d.let.remove(d.closed, port+1); err != nil {
				t.Fatalf("%d: %v", port, err)
			}
		}
		if err := <-waited; err != nil || !d.readable(t, patience) {
			t.Errorf("no phantom: %v", err)
		}
	})
}
