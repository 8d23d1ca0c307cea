package sockets

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

// BenchmarkSwitch sends the clients of one address to the other generation's socket, and the next time back:
// a look at the group and a setsockopt.
func BenchmarkSwitch(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprintf("beside %d sockets", others), func(b *testing.B) {
			puppets.RaiseDescriptorLimit(b, uint64(others)+100)
			for range others {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				defer unix.Close(fd)
				if err := unix.Listen(fd, 1); err != nil { // at a port of the kernel's choice
					b.Fatal(err)
				}
			}
			old := newTestTracker(1, "listeners", nil, nil, NewKnocks(), nil)
			next := newTestTracker(2, "listeners", nil, nil, old.knocks, nil)
			group := sharedPort(b, 2)
			defer func() {
				for _, s := range group {
					unix.Close(s.fd)
				}
			}()
			group[0].owner = old
			g := old.knocks.ports.of(group[0].Key)
			g.note(group[1].Inode, next)
			if err := g.confine(group[:1], next); err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if ok, err := g.switchTo([]*Tracker{next, old}[i%2]); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// sharedPort makes listening sockets of this process that share a port.
func sharedPort(b *testing.B, n int) (group []*Socket) {
	b.Helper()
	own, err := ownNamespace()
	if err != nil {
		b.Fatal(err)
	}
	var at unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		share := func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }
		for _, err := range []error{share(), unix.Bind(fd, at), unix.Listen(fd, 1)} {
			if err != nil {
				b.Fatal(err)
			}
		}
		if at, err = unix.Getsockname(fd); err != nil {
			b.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			b.Fatal(err)
		}
		s, err := newSocket(fd, os.Getpid(), st.Ino, own)
		if err != nil {
			b.Fatal(err)
		}
		group = append(group, s)
	}
	return group
}
