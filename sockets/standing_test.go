package sockets

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

// A socket that the supervisor listens on is planted in the first generation and in the next, is never closed, and is claimed also
// long after the start.
func TestStanding(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		addr := netip.AddrPortFrom(loopback.Addr(), uint16(unusedPort(t)))
		st := standing(t, "tcp://"+addr.String())
		early := dial(t, addr) // before anybody serves
		knocks := NewKnocks()
		from := st.Join(nil, true)
		first := launch(t, 1, level, from, knocks, 0)
		s := first.listenOn(t, addr, 0)
		if s.addr != addr || first.inode(t, s.fd) != st.sockets[0].Inode {
			t.Fatalf("the first generation has %v at %v", first.inode(t, s.fd), s.addr)
		}
		fd := first.Must(t, 0, unix.SYS_ACCEPT4, s.fd, 0, 0, 0)
		first.Must(t, 0, unix.SYS_WRITE, fd, []byte("x"), 1)
		buf := make([]byte, 1)
		if err := early.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := early.Read(buf); err != nil {
			t.Error(err)
		}
		first.Must(t, 0, unix.SYS_CLOSE, fd)
		from.ReleaseClaimed()
		from.Close() // as package restart does when the generation is ready

		next := st.Join(collect(t, first), false)
		if list := next.Sockets(); len(list) != 1 || !list[0].Standing() || !list[0].expected || list[0].fd != st.sockets[0].fd {
			t.Fatalf("%+v", list)
		}
		next.Close()
		second := launch(t, 2, level, next, knocks, 0)
		at := second.listenOn(t, addr, 0) // a late bind
		if second.inode(t, at.fd) != st.sockets[0].Inode {
			t.Error("a late bind did not get the socket")
		}
		if err := first.tracker.Gate(t.Context(), next.Claimed()); err != nil {
			t.Fatal(err)
		}
		// It closes it, and binds it anew.
		second.Must(t, 0, unix.SYS_CLOSE, at.fd)
		dial(t, addr)
		again := second.listenOn(t, addr, 0)
		if second.inode(t, again.fd) != st.sockets[0].Inode {
			t.Error("a second bind did not get the socket")
		}
		second.Must(t, 0, unix.SYS_ACCEPT4, again.fd, 0, 0, 0)
	})
}

// Who asks for MPTCP gets the TCP socket that there is.
func TestStandingMPTCP(t *testing.T) {
	addr := netip.AddrPortFrom(loopback.Addr(), uint16(unusedPort(t)))
	st := standing(t, "tcp://"+addr.String())
	g := launch(t, 1, notify.LevelListeners, st.Join(nil, true), NewKnocks(), 0)
	r := g.Call(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if r.Errno != 0 {
		t.Skip("unsupported here: MPTCP:", r.Errno)
	}
	raw := rawAddress(addr)
	g.Must(t, 0, unix.SYS_BIND, r.Value, raw, len(raw))
	if g.inode(t, r.Value) != st.sockets[0].Inode {
		t.Error("it was not planted")
	}
}

// The file of a socket that the supervisor has made is nobody's to remove.
func TestStandingPath(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		path := puppets.UnixNames(t)["path"]
		st := standing(t, "unix://"+path)
		from := st.Join(nil, true)
		g := launch(t, 1, level, from, NewKnocks(), 0)
		if errno := g.unlink(t, path); errno != 0 || !unixSocketExists(path) {
			t.Fatalf("before the bind: %v, %v", errno, unixSocketExists(path))
		}
		fd := g.listenUnix(t, unix.SOCK_STREAM, path)
		servesUnix(t, g.puppet, fd, "unix", path)
		from.ReleaseClaimed()
		from.Close()
		g.tracker.mu.Lock()
		g.tracker.starting = false
		g.tracker.mu.Unlock()
		if errno := g.unlink(t, path); errno != 0 || !unixSocketExists(path) {
			t.Fatalf("while it serves: %v, %v", errno, unixSocketExists(path))
		}
		st.Close()
		if unixSocketExists(path) {
			t.Error("the supervisor left its file")
		}
	})
}

// What the supervisor was started with is of any kind: only listening sockets can stand for a bind, all can be passed on.
func TestStandingGiven(t *testing.T) {
	listening, err := newStream(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listening, 1); err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(pipe[1])
	path := puppets.UnixNames(t)["path"]
	old := unix.Umask(0o077)
	named, err := newStream(unix.AF_UNIX)
	if err == nil {
		err = unix.Bind(named, &unix.SockaddrUnix{Name: path})
	}
	unix.Umask(old)
	if err == nil {
		err = unix.Listen(named, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := OpenStanding([]Given{{pipe[0], "p"}, {listening, "l"}, {named, "u"}}, nil, false, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, names := st.Files()
	if fmt.Sprint(names) != "[p l u]" || len(files) != 3 || files[0] != pipe[0] {
		t.Errorf("%v, %v", files, names)
	}
	if list := st.Join(nil, true).Sockets(); len(list) != 2 || list[1].Path != path || list[1].file == nil {
		t.Errorf("%v", list)
	}
	st.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error("a file that somebody else has made was removed:", err)
	}
	if err := unix.Close(listening); err != unix.EBADF {
		t.Error("a descriptor was left open")
	}
}

func TestStandingNone(t *testing.T) {
	t.Parallel()
	var none *Standing
	none.Close()
	if files, _ := none.Files(); files != nil || none.Join(nil, true) != nil {
		t.Error("nothing is something")
	}
	p := &Preserved{}
	if none.Join(p, false) != p {
		t.Error("it is another")
	}
}

// Sockets that a generation is started with count as claimed and listened on at once, and it is ready when it waits on them.
func TestPass(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		addr := netip.AddrPortFrom(loopback.Addr(), uint16(unusedPort(t)))
		st := standing(t, "tcp://"+addr.String())
		from := st.Join(nil, true)
		tracker := newTestTracker(2, level, from, nil, NewKnocks(), nil)
		tracker.pids = func() []int { return nil }
		tracker.pass()
		if r := tracker.readiness(0); !r.passed || r.listening != 1 || r.claims != 1 || r.preserved != 1 || r.lacks() == lacksNothing {
			t.Errorf("%+v", r)
		}
		if len(from.Claimed()) != 1 {
			t.Error("the old generation would not be gated")
		}
		// A service that binds all the same gets it.
		if s := from.first(st.sockets[0].Key, func(s *Socket) bool { return !s.claimed }); s == nil {
			t.Error("it can't be bound")
		}
		tracker.mu.Lock()
		tracker.nowWaited(st.sockets[0].Inode, 1)
		tracker.mu.Unlock()
		if r := tracker.readiness(0); r.lacks() != lacksNothing {
			t.Errorf("%+v", r)
		}
	})
}
