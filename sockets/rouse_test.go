package sockets

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client that nobody was woken for: somebody is, by one more connection.
func TestRouse(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", listen)
			if err != nil {
				t.Skip("unsupported here:", err)
			}
			defer l.Close()
			raw, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			fd, err := unix.FcntlInt(raw.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			key, err := describe(fd, unix.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			name, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			address, _ := SockaddrOf(name)
			s := &Socket{Key: key.at(address), fd: fd, claimed: true}
			p := &Preserved{sockets: []*Socket{s}}
			ctx, cancel := context.WithCancel(context.Background())
			over := make(chan struct{})
			rouse := p.Rouse()
			p.ReleaseClaimed()
			go func() { rouse(ctx); close(over) }()
			waiting := func() uint32 { q := queue{fd: int(raw.Fd())}; return q.waiting() }

			time.Sleep(4 * rousePause) // nobody waits: nobody is roused
			if n := waiting(); n != 0 {
				t.Errorf("%d connections out of nowhere", n)
			}
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for limit := time.Now().Add(patience); waiting() < 2; time.Sleep(time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatal("nobody was roused")
				}
			}
			cancel()
			<-over
			first, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer first.Close()
			if first.RemoteAddr().String() != c.LocalAddr().String() {
				t.Errorf("the first is %s, not the client", first.RemoteAddr())
			}
			second, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("the second has %d bytes", n)
			}
		})
	}
}
