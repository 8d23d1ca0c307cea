package sockdiag

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func portSet(ports ...uint16) map[uint16]struct{} {
	set := make(map[uint16]struct{}, len(ports))
	for _, p := range ports {
		set[p] = struct{}{}
	}
	return set
}

// diagServer is a listener, the connections made to it and those it accepted.
type diagServer struct {
	*net.TCPListener
	port     uint16
	clients  []*net.TCPConn
	accepted []*net.TCPConn
}

func newDiagServer(t testing.TB, network, address string) *diagServer {
	t.Helper()
	l, err := net.Listen(network, address)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Skipf("no such addresses here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &diagServer{TCPListener: l.(*net.TCPListener)}
	s.port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	t.Cleanup(func() {
		for _, c := range append(s.clients, s.accepted...) {
			_ = c.SetLinger(0) // reset: thousands in TIME_WAIT would keep ports from the next test
			_ = c.Close()
		}
		_ = l.Close()
	})
	return s
}

func (s *diagServer) connect(t testing.TB, to string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), s.port)))
	if err != nil {
		t.Fatal(err)
	}
	s.clients = append(s.clients, c)
	return c
}

func (s *diagServer) accept(t testing.TB) *net.TCPConn {
	t.Helper()
	if err := s.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c, err := s.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	s.accepted = append(s.accepted, c)
	return c
}

func newDiag(t testing.TB) *Conn {
	t.Helper()
	d, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// diagUntil lists until the list is as wanted.
func diagUntil(t testing.TB, d *Conn, ports map[uint16]struct{}, what string, ok func([]Connection) bool) []Connection {
	t.Helper()
	var list []Connection
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var err error
		if list, err = d.TCPConnections(list[:0], ports); err != nil {
			t.Fatal(err)
		}
		if ok(list) {
			return list
		}
	}
	t.Fatalf("not %s within 10 s: %+v", what, list)
	return nil
}

func inodeOf(t testing.TB, c *net.TCPConn) uint32 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := errors.Join(raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }), err); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

func TestDiagLifeOfAConnection(t *testing.T) {
	t.Parallel()
	d := newDiag(t)
	s := newDiagServer(t, "tcp4", "127.0.0.1:0")
	ports := portSet(s.port)
	diagUntil(t, d, ports, "empty", func(l []Connection) bool { return len(l) == 0 })

	client := s.connect(t, "127.0.0.1")
	list := diagUntil(t, d, ports, "one that waits", func(l []Connection) bool {
		return len(l) == 1 && l[0].Inode == 0 && l[0].State == TCPEstablished
	})
	want := Connection{
		Local:  client.RemoteAddr().(*net.TCPAddr).AddrPort(),
		Remote: client.LocalAddr().(*net.TCPAddr).AddrPort(),
		State:  TCPEstablished,
		Family: unix.AF_INET,
	}
	if list[0] != want {
		t.Errorf("in the accept queue: %+v, want %+v", list[0], want)
	}

	server := s.accept(t)
	want.Inode = inodeOf(t, server)
	list = diagUntil(t, d, ports, "one that is accepted", func(l []Connection) bool { return len(l) == 1 && l[0].Inode != 0 })
	if list[0] != want {
		t.Errorf("accepted: %+v, want %+v", list[0], want)
	}

	// Half closed by either side, it is still the service's.
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	diagUntil(t, d, ports, "half closed by the client", func(l []Connection) bool {
		return len(l) == 1 && l[0].Inode == want.Inode && l[0].State == TCPCloseWait
	})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	diagUntil(t, d, ports, "gone", func(l []Connection) bool { return len(l) == 0 || len(l) == 1 && l[0].Inode == 0 })
}

// A service that closes first: what the kernel still has to send is listed without an inode.
func TestDiagClosedByTheService(t *testing.T) {
	t.Parallel()
	d := newDiag(t)
	s := newDiagServer(t, "tcp4", "127.0.0.1:0")
	s.connect(t, "127.0.0.1")
	server := s.accept(t)
	inode := inodeOf(t, server)
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	diagUntil(t, d, portSet(s.port), "half closed by the service", func(l []Connection) bool {
		return len(l) == 1 && l[0].Inode == inode && l[0].State == tcpFinWait2
	})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	// It is none where the kernel's table of such connections is full (tcp_max_tw_buckets): other tests fill it now and then.
	diagUntil(t, d, portSet(s.port), "closed, with a client that is not done", func(l []Connection) bool {
		return len(l) == 0 || len(l) == 1 && l[0].Inode == 0 && l[0].State == tcpFinWait2
	})
}

func TestDiagIPv6(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, listen, connect, local string }{
		{"dual-stack, IPv4 client", "[::]:0", "127.0.0.1", "::ffff:127.0.0.1"},
		{"IPv6 client", "[::1]:0", "::1", "::1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDiag(t)
			s := newDiagServer(t, "tcp", test.listen)
			s.connect(t, test.connect)
			want := inodeOf(t, s.accept(t))
			local := netip.AddrPortFrom(netip.MustParseAddr(test.local), s.port)
			// Another test may have the port of the same number of the other family.
			diagUntil(t, d, portSet(s.port), "accepted", func(l []Connection) bool {
				return slices.ContainsFunc(l, func(c Connection) bool {
					return c.Inode == want && c.Family == unix.AF_INET6 && c.Local == local
				})
			})
		})
	}
}

// The kernel's filter, in its three ways: the port of the request, the program, and none.
func TestDiagPorts(t *testing.T) {
	t.Parallel()
	d := newDiag(t)
	a, b, other := newDiagServer(t, "tcp4", "127.0.0.1:0"), newDiagServer(t, "tcp4", "127.0.0.2:0"), newDiagServer(t, "tcp4", "127.0.0.1:0")
	for range 3 {
		a.connect(t, "127.0.0.1")
		a.accept(t)
	}
	b.connect(t, "127.0.0.2")
	b.accept(t)
	other.connect(t, "127.0.0.1")
	other.accept(t)
	for _, n := range []int{2, 3, 10, maxFilterPorts, maxFilterPorts + 1, 5000} {
		ports := portSet(a.port, b.port)
		for p := uint16(1); len(ports) < n; p++ {
			ports[p] = struct{}{} // low ports: no test's connection has one
		}
		diagUntil(t, d, ports, "three and one", func(l []Connection) bool {
			// By whole addresses: another program may have the same port of another one.
			count := map[netip.AddrPort]int{}
			for _, c := range l {
				if _, asked := ports[c.Local.Port()]; !asked {
					return false
				}
				count[c.Local]++
			}
			return count[netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.port)] == 3 && count[netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), b.port)] == 1
		})
	}
	if list, err := d.TCPConnections(nil, nil); err != nil || list != nil {
		t.Errorf("no ports: %v, %v", list, err)
	}
	kept := []Connection{{Inode: 1}}
	if list, err := d.TCPConnections(kept, portSet(b.port)); err != nil || len(list) < 2 || list[0] != kept[0] {
		t.Errorf("appended: %v, %v", list, err)
	}
}

func TestDiagManyConnections(t *testing.T) {
	t.Parallel()
	const n = 2000
	d := newDiag(t)
	s := newDiagServer(t, "tcp4", "127.0.0.1:0")
	want := make(map[uint32]bool, n)
	for range n {
		s.connect(t, "127.0.0.1")
		want[inodeOf(t, s.accept(t))] = true
	}
	diagUntil(t, d, portSet(s.port), "all", func(l []Connection) bool {
		seen := make(map[uint32]bool, n)
		for _, c := range l {
			if !want[c.Inode] {
				t.Fatalf("%+v was never accepted", c)
			}
			seen[c.Inode] = true
		}
		return len(seen) == n
	})
}

func TestDiagAfterFailureAndClose(t *testing.T) {
	t.Parallel()
	d := newDiag(t)
	s := newDiagServer(t, "tcp4", "127.0.0.1:0")
	s.connect(t, "127.0.0.1")
	if err := d.conn.Close(); err != nil {
		t.Fatal(err)
	}
	kept := []Connection{{Inode: 1}}
	if list, err := d.TCPConnections(kept, portSet(s.port)); err == nil || len(list) != 1 {
		t.Fatalf("on a closed socket: %v, %v", list, err)
	}
	// The next call opens another.
	diagUntil(t, d, portSet(s.port), "one", func(l []Connection) bool { return len(l) == 1 })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.TCPConnections(nil, portSet(s.port)); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}
