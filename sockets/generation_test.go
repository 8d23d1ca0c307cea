package sockets

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

var programs = map[notify.Level]func() (notify.Program, error){
	notify.LevelConnections: sync.OnceValues(func() (notify.Program, error) {
		return notify.BuildFilter(notify.LevelConnections, notify.WithUnlink, notify.WithRename)
	}),
	notify.LevelCalls: sync.OnceValues(func() (notify.Program, error) {
		return notify.BuildFilter(notify.LevelCalls, notify.WithUnlink, notify.WithRename)
	}),
	notify.LevelListeners: sync.OnceValues(func() (notify.Program, error) {
		return notify.BuildFilter(notify.LevelListeners, notify.WithUnlink, notify.WithRename)
	}),
}

// generation is a puppet that runs under a filter, and a Tracker that answers its calls.
type generation struct {
	*puppet
	tracker *Tracker
	workers []int // controls that are free, at their own numbers in the puppet
	ours    map[int]int
}

// testWriter puts the log of the code under test into that of the test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))
	return len(b), nil
}

// launch starts a generation. It has room for as many workers.
func launch(t *testing.T, number int, level notify.Level, from *Preserved, knocks *Knocks, workers int) *generation {
	t.Helper()
	return launchPrepared(t, number, level, from, knocks, workers, func(*Tracker) {})
}

// launchPrepared calls prepare before a call of the generation is answered.
func launchPrepared(t *testing.T, number int, level notify.Level, from *Preserved, knocks *Knocks, workers int, prepare func(*Tracker)) *generation {
	t.Helper()
	if err := notify.Probe(); errors.Is(err, notify.ErrUnsupported) {
		t.Skip(err)
	}
	program, err := programs[level]()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []int
	ours := make(map[int]int)
	for range workers + 1 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, pair[1])
		ours[pair[1]] = pair[0]
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := []string{self, puppets.Name, strconv.Itoa(theirs[0])}
	var launcher *notify.Launcher
	onMain(func() {
		launcher, err = notify.Start(notify.Launch{Command: command, Program: program, Inherited: theirs})
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &generation{puppet: newPuppet(t, launcher.PID, ours[theirs[0]]), workers: theirs[1:], ours: ours}
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g.tracker = newTestTracker(number, level, from, func() []int { return group(g.PID) }, knocks, log)
	prepare(g.tracker)
	served := make(chan error, 1)
	t.Cleanup(func() {
		_ = unix.Kill(-g.PID, unix.SIGKILL)
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("generation %d: %v", number, err)
			}
		case <-time.After(patience):
			t.Errorf("generation %d was killed, and its listener does not hang up", number)
		}
		for {
			if _, err := unix.Wait4(-g.PID, nil, 0, nil); err != nil && err != unix.EINTR {
				break
			}
		}
		for _, fd := range theirs[1:] {
			_ = unix.Close(ours[fd]) // of workers that never were
		}
		g.tracker.Close()
	})
	err = launcher.Handshake(func(l *notify.Listener) {
		go func() { // ends with the generation, which is killed above
			err := l.Serve(g.tracker, nil)
			served <- errors.Join(err, l.Close())
		}()
	})
	for _, fd := range theirs {
		_ = unix.Close(fd)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// worker starts another process of the generation that has these descriptors, at the same numbers.
func (g *generation) worker(t *testing.T, descriptors ...int) *puppet {
	t.Helper()
	control := g.workers[0]
	g.workers = g.workers[1:]
	r := g.Order(t, puppets.Order{Worker: append([]int{control}, descriptors...)}).Wait(t)
	if r.Errno != 0 {
		t.Fatal(r.Errno)
	}
	// newPuppet closes what it is given; the copy is closed with the generation.
	dup, err := unix.FcntlInt(uintptr(g.ours[control]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return newPuppet(t, r.Value, dup)
}

// group lists the living processes of a process group.
func group(pgrp int) []int {
	var members []int
	pids, _ := proc.Processes()
	for _, pid := range pids {
		if st, err := proc.ReadStat(pid); err == nil && st.PGRP == pgrp && st.State != 'Z' && st.State != 'X' {
			members = append(members, pid)
		}
	}
	return members
}

// service is what a puppet listens on.
type service struct {
	fd   int
	addr netip.AddrPort
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// listenOn makes, binds and listens on a socket. flags are SOCK_NONBLOCK and SOCK_CLOEXEC.
func (p *puppet) listenOn(t *testing.T, addr netip.AddrPort, flags int) service {
	t.Helper()
	s := p.bindTo(t, addr, flags)
	p.Must(t, 0, unix.SYS_LISTEN, s.fd, 16)
	return s
}

func (p *puppet) bindTo(t *testing.T, addr netip.AddrPort, flags int) service {
	t.Helper()
	return p.bindWith(t, addr, flags, 1)
}

// listenAlone is listenOn for a socket beside which the kernel lets no other have the address.
func (p *puppet) listenAlone(t *testing.T, addr netip.AddrPort, flags int) service {
	t.Helper()
	s := p.bindWith(t, addr, flags, 0)
	p.Must(t, 0, unix.SYS_LISTEN, s.fd, 16)
	return s
}

func (p *puppet) bindWith(t *testing.T, addr netip.AddrPort, flags int, reuse byte) service {
	t.Helper()
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd := p.Must(t, 0, unix.SYS_SOCKET, family, unix.SOCK_STREAM|flags, 0)
	p.Must(t, 0, unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, []byte{reuse, 0, 0, 0}, 4)
	raw := rawAddress(addr)
	p.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
	name := p.Call(t, 0, unix.SYS_GETSOCKNAME, fd, make([]byte, sockaddr.SizeofStorage), []byte{sockaddr.SizeofStorage, 0, 0, 0})
	bound, err := sockaddr.Parse(name.Memory[1][:sockaddr.SizeofIn6])
	if name.Errno != 0 || err != nil {
		t.Fatal(name.Errno, err)
	}
	return service{fd, bound.AddrPort}
}

func rawAddress(addr netip.AddrPort) []byte {
	if addr.Addr().Is6() {
		return puppets.Sockaddr6(addr.Addr().String(), addr.Port(), 0)
	}
	ip := addr.Addr().As4()
	return append(puppets.Sockaddr(unix.AF_INET, byte(addr.Port()>>8), byte(addr.Port()), ip[0], ip[1], ip[2], ip[3]), make([]byte, 8)...)
}

// inode is that of the socket at a descriptor of the puppet's.
func (p *puppet) inode(t *testing.T, fd int) uint64 {
	t.Helper()
	inode, ok, err := proc.DescriptorSocket(p.PID, fd)
	if err != nil || !ok {
		t.Fatalf("descriptor %d of %d: %v, %v", fd, p.PID, ok, err)
	}
	return inode
}

// dial connects a client; it is closed when the test is over.
func dial(t *testing.T, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	})
	return c.(*net.TCPConn)
}

// newTestTracker makes a tracker that needs no supervisor.
func newTestTracker(generation int, level notify.Level, from *Preserved, pids func() []int, knocks *Knocks, log *slog.Logger) *Tracker {
	if knocks == nil {
		knocks = NewKnocks()
	}
	t, err := New(Config{
		Generation: generation, Level: level, From: from, Processes: pids, Knocks: knocks, Log: log, Rest: DatagramQuiet,
	})
	if err != nil {
		panic(err)
	}
	return t
}
