package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// groupOf makes a SO_REUSEPORT group of n sockets of this process at a port of the kernel's choice.
func groupOf(t *testing.T, n int, address string, kind, protocol int) []*Socket {
	t.Helper()
	return joined(t, nil, n, netip.AddrPortFrom(netip.MustParseAddr(address), 0), kind, protocol)
}

// joined appends n more sockets to a group.
func joined(t *testing.T, group []*Socket, n int, addr netip.AddrPort, kind, protocol int) []*Socket {
	t.Helper()
	own, err := ownNamespace()
	if err != nil {
		t.Fatal(err)
	}
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	for range n {
		fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
		if protocol == unix.IPPROTO_MPTCP && err != nil {
			t.Skipf("unsupported here: multipath TCP: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, (sockaddr.Address{Family: uint16(family), AddrPort: addr}).Sockaddr()); err != nil {
			t.Fatal(err)
		}
		if kind == unix.SOCK_STREAM {
			if err := unix.Listen(fd, 128); err != nil {
				t.Fatal(err)
			}
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		s, err := newSocket(fd, os.Getpid(), st.Ino, own)
		if err != nil {
			t.Fatal(err)
		}
		addr = s.Key.Address.AddrPort
		group = append(group, s)
	}
	return group
}

// groups are the kinds that there are.
var groups = []struct {
	name, address  string
	kind, protocol int
}{
	{"tcp", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP},
	{"tcp6", "::1", unix.SOCK_STREAM, unix.IPPROTO_TCP},
	{"wildcard6", "::", unix.SOCK_STREAM, unix.IPPROTO_TCP},
	{"mptcp", "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	{"udp", "127.0.0.1", unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	{"udp6", "::1", unix.SOCK_DGRAM, unix.IPPROTO_UDP},
}

// ask sends one client to the group, and forgets it.
func ask(t *testing.T, k sockaddr.Key) {
	t.Helper()
	fd, err := unix.Socket(int(k.Address.Family), k.Type|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, k.Address.Sockaddr()); err != nil {
		t.Fatal(err)
	}
	if k.IsDatagram() {
		if _, err := unix.Write(fd, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

// taken takes what waits in a socket of the group, and counts it.
func taken(t *testing.T, s *Socket) (n int) {
	t.Helper()
	for {
		var err error
		if s.Key.IsDatagram() {
			_, _, err = unix.Recvfrom(s.fd, make([]byte, 8), 0)
		} else {
			var fd int
			if fd, _, err = unix.Accept4(s.fd, unix.SOCK_CLOEXEC); err == nil {
				unix.Close(fd)
			}
		}
		if err == unix.EAGAIN {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

// What a group is steered away from gets nothing, whatever the place of its sockets in the kernel's array; when the steering ends,
// every socket gets its share again.
func TestSteer(t *testing.T) {
	const clients = 64
	for _, kind := range groups {
		for _, stays := range [][]int{{0, 1}, {0}, {3}, {1, 2}, {0, 1, 2}} {
			t.Run(fmt.Sprint(kind.name, stays), func(t *testing.T) {
				group := groupOf(t, 4, kind.address, kind.kind, kind.protocol)
				staying := make(map[int]bool)
				for _, i := range stays {
					group[i].claimed, staying[i] = true, true
				}
				p := &Preserved{sockets: group}
				tr := newTestTracker(1, "connections", nil, nil, nil, nil)
				tr.Shrink(p)
				if len(p.steerings) != 1 {
					t.Fatalf("%d groups were steered", len(p.steerings))
				}
				for range clients {
					ask(t, group[0].Key)
				}
				sum := 0
				for i, s := range group {
					n := taken(t, s)
					sum += n
					switch {
					case s.surplus == staying[i]:
						t.Errorf("socket %d: surplus: %v", i, s.surplus)
					case staying[i] && n == 0:
						t.Errorf("socket %d stays, and got none of %d", i, clients)
					case !staying[i] && n > 0:
						t.Errorf("socket %d will go, and got %d of %d", i, n, clients)
					}
				}
				if sum != clients {
					t.Errorf("%d of %d arrived", sum, clients)
				}
				p.endSteering()
				// With four sockets that are chosen by the client's port, sixteen times as many leave none out but by a miracle.
				for range clients {
					ask(t, group[0].Key)
				}
				for i, s := range group {
					if taken(t, s) == 0 {
						t.Errorf("socket %d got nothing when the steering had ended", i)
					}
				}
			})
		}
	}
}

// A program that the service has attached is the service's.
func TestSteerLeavesTheServicesProgram(t *testing.T) {
	group := groupOf(t, 4, "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err := attach(group[0].fd, choice([]uint32{3})); err != nil {
		t.Fatal(err)
	}
	group[0].claimed, group[2].steered = true, true
	p := &Preserved{sockets: group}
	if err := p.steer(group, group[:1], group[1:]); !errors.Is(err, errUnsteered) {
		t.Errorf("steered: %v", err)
	}
	for range 16 {
		ask(t, group[0].Key)
	}
	if n := taken(t, group[3]); n != 16 {
		t.Errorf("%d of 16 came to the socket of the service's own choice", n)
	}
}

// Somebody else's sockets in the group, who came before, keep their places and their clients.
func TestSteerBesideOthers(t *testing.T) {
	for _, kind := range groups {
		t.Run(kind.name, func(t *testing.T) {
			all := groupOf(t, 4, kind.address, kind.kind, kind.protocol)
			foreign, group := all[:1], all[1:]
			group[0].claimed = true
			p := &Preserved{sockets: group}
			newTestTracker(1, "connections", nil, nil, nil, nil).Shrink(p)
			if len(p.steerings) != 1 {
				t.Fatalf("%d groups were steered", len(p.steerings))
			}
			for range 64 {
				ask(t, group[0].Key)
			}
			if a, b := taken(t, foreign[0]), taken(t, group[0]); a == 0 || b == 0 || a+b != 64 {
				t.Errorf("%d came to the other's socket, and %d to the one that stays, of 64", a, b)
			}
			p.endSteering()
		})
	}
}

// What joins a group that is confined gets nothing until that is over.
func TestConfine(t *testing.T) {
	for _, kind := range groups {
		t.Run(kind.name, func(t *testing.T) {
			group := groupOf(t, 2, kind.address, kind.kind, kind.protocol)
			p := &Preserved{sockets: group}
			k := group[0].Key
			for range 2 { // the second time nothing is left to do
				if err := p.confine(k); err != nil {
					t.Fatal(err)
				}
			}
			all := joined(t, group, 2, k.Address.AddrPort, kind.kind, kind.protocol)
			for range 64 {
				ask(t, k)
			}
			for i, s := range all {
				if n := taken(t, s); (n == 0) != (i >= 2) {
					t.Errorf("socket %d got %d of 64", i, n)
				}
			}
			p.endConfinement()
			for range 64 {
				ask(t, k)
			}
			for i, s := range all {
				if taken(t, s) == 0 {
					t.Errorf("socket %d got nothing when it was over", i)
				}
			}
		})
	}
}

// Where the new generation attaches a program of its own, that one stays.
func TestConfineGivesWay(t *testing.T) {
	group := groupOf(t, 2, "127.0.0.1", unix.SOCK_STREAM, unix.IPPROTO_TCP)
	p := &Preserved{sockets: group}
	if err := p.confine(group[0].Key); err != nil {
		t.Fatal(err)
	}
	p.nowSteered(0, group[0].Key.Address)
	if err := attach(group[1].fd, choice([]uint32{1})); err != nil {
		t.Fatal(err)
	}
	p.endConfinement()
	for range 16 {
		ask(t, group[0].Key)
	}
	if n := taken(t, group[1]); n != 16 {
		t.Errorf("%d of 16 came to the socket of the service's own choice", n)
	}
	if err := p.steer(group, group[:1], group[1:]); !errors.Is(err, errUnsteered) {
		t.Errorf("steered: %v", err)
	}
}

// Before a time in which nobody serves all clients come to the first socket of a group.
func TestGather(t *testing.T) {
	for _, kind := range groups {
		t.Run(kind.name, func(t *testing.T) {
			group := groupOf(t, 4, kind.address, kind.kind, kind.protocol)
			p := &Preserved{sockets: group}
			newTestTracker(1, "connections", nil, func() []int { return nil }, NewKnocks(), nil).Gather(p)
			for range 32 {
				ask(t, group[0].Key)
			}
			if n := taken(t, group[0]); n != 32 {
				t.Errorf("%d of 32 came to the first socket", n)
			}
			if list := p.WithoutSurplus(); len(list) != 1 || list[0] != group[0] {
				t.Errorf("%d sockets are no surplus", len(list))
			}
			p.endSteering()
		})
	}
}
