package sockets

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// impossible is a socket that no placeholder can stand for: there is no such family.
func impossible() *Socket {
	return &Socket{Key: sockaddr.Key{Address: sockaddr.Address{Family: 255}, Type: unix.SOCK_STREAM}, Inode: 1, fd: -1}
}

// TestFaultB4AllPlaceholdersOrNone: where one placeholder can't be made the gate is set for no socket, not for those before it, and those that were made
// for it beforehand stay.
func TestFaultB4AllPlaceholdersOrNone(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		g := launch(t, 1, level, nil, NewKnocks(), 0)
		first, second := g.listenOn(t, loopback, 0), g.listenOn(t, loopback, unix.SOCK_NONBLOCK)
		p, err := g.tracker.Collect([]int{g.PID})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if n := len(g.tracker.prepared); n != 2 {
			t.Errorf("%d placeholders were made for 2 sockets", n)
		}
		if err := g.tracker.Gate(t.Context(), append(p.sockets[:2:2], impossible())); err == nil {
			t.Fatal("a gate with a socket that no placeholder can stand for")
		}
		// What was made for it is closed: TestMain finds what is left open. Levels run side by side, so descriptors can't be counted here.
		if n := len(g.tracker.prepared); n != 2 {
			t.Errorf("%d placeholders are left for 2 sockets", n)
		}
		for _, s := range []service{first, second} {
			if g.tracker.gate.has(g.inode(t, s.fd)) {
				t.Errorf("%v counts as gated", s.addr)
			}
		}
		// It serves as before.
		inode := g.inode(t, first.fd)
		dial(t, first.addr)
		conn := g.Must(t, 0, unix.SYS_ACCEPT4, first.fd, 0, 0, 0)
		g.Must(t, 0, unix.SYS_CLOSE, conn)
		if now := g.inode(t, first.fd); now != inode {
			t.Errorf("its socket was exchanged")
		}
		if err := g.tracker.Gate(t.Context(), p.sockets); err != nil {
			t.Error(err)
		}
		if n := len(g.tracker.prepared); n != 0 {
			t.Errorf("%d placeholders are left", n)
		}
	})
}

// TestFaultB4Released: a restart that has failed leaves no placeholder.
func TestFaultB4Released(t *testing.T) {
	g := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	g.listenOn(t, loopback, 0)
	before := openDescriptors(t)
	for range 2 {
		p, err := g.tracker.Collect([]int{g.PID})
		if err != nil {
			t.Fatal(err)
		}
		g.tracker.HandOver(p)
		p.Close()
		g.tracker.HandOver(nil)
		if n := openDescriptors(t); n != before {
			t.Errorf("%d descriptors are open, %d were before", n, before)
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := proc.Descriptors(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestFaultB4RecycledPID: a process that has got the PID of one that was visited is visited.
func TestFaultB4RecycledPID(t *testing.T) {
	g := newGate()
	self := os.Getpid()
	if fresh := g.unvisited([]int{self, 1 << 22}); len(fresh) != 1 || fresh[0] != self {
		t.Errorf("fresh: %v", fresh)
	}
	if fresh := g.unvisited([]int{self}); len(fresh) != 0 {
		t.Errorf("visited, and fresh again: %v", fresh)
	}
	st, err := proc.ReadStat(self)
	if err != nil {
		t.Fatal(err)
	}
	// As if the one that was visited had begun at another time.
	delete(g.visited, visitor{self, st.StartTime})
	g.visited[visitor{self, st.StartTime - 1}] = struct{}{}
	if fresh := g.unvisited([]int{self}); len(fresh) != 1 {
		t.Errorf("a recycled PID is not visited: %v", fresh)
	}
	if _, err := g.add([]*Socket{impossible()}, nil); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("%v", err)
	}
}
