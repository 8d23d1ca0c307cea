package sockets

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

// launchCommand starts a puppet as a command that asks a generation whether it serves.
func launchCommand(t *testing.T, of *Tracker) (*puppet, *ProbeCommand) {
	t.Helper()
	program, err := notify.BuildConnectFilter()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var launcher *notify.Launcher
	onMain(func() {
		launcher, err = notify.Start(notify.Launch{Program: program, Inherited: pair[1:],
			Command: []string{self, puppets.Name, strconv.Itoa(pair[1])}})
	})
	if err != nil {
		t.Fatal(err)
	}
	p, calls, served := newPuppet(t, launcher.PID, pair[0]), of.ProbeCommand(), make(chan error, 1)
	t.Cleanup(func() {
		_ = unix.Kill(p.PID, unix.SIGKILL)
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the command was killed, and its listener does not hang up")
		}
		_, _ = unix.Wait4(p.PID, nil, 0, nil)
		calls.Close()
	})
	err = launcher.Handshake(func(l *notify.Listener) {
		go func() { // ends with the puppet
			served <- errors.Join(l.Serve(calls, nil), l.Close())
		}()
	})
	_ = unix.Close(pair[1])
	if err != nil {
		t.Fatal(err)
	}
	return p, calls
}

// connects makes a socket and connects it.
func (p *puppet) connects(t *testing.T, to netip.AddrPort, flags int) (fd int, errno unix.Errno) {
	t.Helper()
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd = p.Must(t, 0, unix.SYS_SOCKET, family, unix.SOCK_STREAM|flags, 0)
	raw := rawAddress(to)
	return fd, p.Call(t, 0, unix.SYS_CONNECT, fd, raw, len(raw)).Errno
}

// What a command connects to reaches the generation that it asks about, and no client does.
func TestProbeCommand(t *testing.T) {
	const probes = 50
	for _, kind := range stagedKinds {
		if kind.kind != unix.SOCK_STREAM {
			continue
		}
		for _, deny := range []bool{false, true} {
			t.Run(kind.name+map[bool]string{true: " denied"}[deny], func(t *testing.T) {
				knocks := NewKnocks()
				at := kind.unused(t)
				old := launchStaged(t, 1, nil, knocks)
				was := kind.listens(t, old.puppet, at)
				next := launchPrepared(t, 2, notify.LevelListeners, collect(t, old), knocks, 0, func(tr *Tracker) {
					if err := tr.Stage(); err != nil {
						t.Fatal(err)
					}
					if deny {
						tr.stage.copyCaller = func(int, int) (int, error) { return -1, unix.EPERM }
					}
				})
				is := kind.opens(t, next.puppet, at)
				command, calls := launchCommand(t, next.tracker)
				fd, errno := command.connects(t, kind.target(at), 0)
				if errno != unix.ECONNREFUSED || calls.Led() {
					t.Fatalf("a connect before listen: %v", errno)
				}
				command.Must(t, 0, unix.SYS_CLOSE, fd)
				next.Must(t, 0, unix.SYS_LISTEN, is.fd, 4096)
				clients := kind.crowd(at)
				targets := []netip.AddrPort{kind.target(at), at} // the latter may stand for all addresses
				var open []int
				for i := range probes {
					fd, errno := command.connects(t, targets[i%2], 0)
					if errno != 0 {
						t.Fatal(i, errno)
					}
					open = append(open, fd)
				}
				clients.until(t, 20)
				for _, fd := range open {
					command.Must(t, 0, unix.SYS_CLOSE, fd)
				}
				sent := clients.over(t)
				if n := kind.takes(t, next.puppet, is); n != probes {
					t.Errorf("%d of %d connections of the command reached the new generation", n, probes)
				}
				if n := kind.takes(t, old.puppet, was); n != sent {
					t.Errorf("%d of %d clients reached the old generation", n, sent)
				}
				if !calls.Led() || calls.Astray() != nil {
					t.Errorf("led: %v, astray: %v", calls.Led(), calls.Astray())
				}
			})
		}
	}
}

// A command may make as many connections as it likes, one after the other, and some at once. The ports are there for
// the next one.
func TestProbeCommandPorts(t *testing.T) {
	kind := stagedKinds[0]
	knocks := NewKnocks()
	at := kind.unused(t)
	old := launchStaged(t, 1, nil, knocks)
	was := kind.listens(t, old.puppet, at)
	next := launchStaged(t, 2, collect(t, old), knocks)
	is := kind.listens(t, next.puppet, at)
	command, _ := launchCommand(t, next.tracker)
	var open []int
	for range maxLent {
		fd, errno := command.connects(t, at, 0)
		if errno != 0 {
			t.Fatal(len(open), errno)
		}
		open = append(open, fd)
	}
	if fd, errno := command.connects(t, at, 0); errno != unix.EADDRNOTAVAIL {
		t.Errorf("one more: %v", errno)
	} else {
		command.Must(t, 0, unix.SYS_CLOSE, fd)
	}
	taken := kind.takes(t, next.puppet, is) // and closed
	for _, fd := range open {
		command.Must(t, 0, unix.SYS_CLOSE, fd)
	}
	for i := range maxLent {
		fd, errno := command.connects(t, at, 0)
		if errno != 0 {
			t.Fatal(i, errno)
		}
		command.Must(t, 0, unix.SYS_CLOSE, fd)
		taken += kind.takes(t, next.puppet, is)
	}
	if taken != 2*maxLent {
		t.Errorf("%d of %d connections reached the new generation", taken, 2*maxLent)
	}
	if n := kind.takes(t, old.puppet, was); n != 0 {
		t.Errorf("%d connections reached the old generation", n)
	}
	if n := len(next.tracker.stage.source.ports()); n != maxLent+1 {
		t.Errorf("there are %d ports", n)
	}
}

// Of each command after the other the ports are given back; an address that nobody stages is left alone, and so is a
// socket that is bound.
func TestProbeCommandAfterCommand(t *testing.T) {
	kind := stagedKinds[0]
	knocks := NewKnocks()
	at := kind.unused(t)
	old := launchStaged(t, 1, nil, knocks)
	was := kind.listens(t, old.puppet, at)
	next := launchStaged(t, 2, collect(t, old), knocks)
	is := kind.listens(t, next.puppet, at)
	for range 5 {
		command, calls := launchCommand(t, next.tracker)
		fd, errno := command.connects(t, at, unix.SOCK_NONBLOCK)
		if errno != 0 && errno != unix.EINPROGRESS {
			t.Fatal(errno)
		}
		command.Must(t, 0, unix.SYS_CLOSE, fd)
		if n := kind.takes(t, next.puppet, is); n != 1 {
			t.Errorf("%d connections reached the new generation", n)
		}
		calls.Close()
	}
	if n := len(next.tracker.stage.source.ports()); n != 2 {
		t.Errorf("there are %d ports", n)
	}
	command, calls := launchCommand(t, next.tracker)
	other := kind.listens(t, command, kind.unused(t))
	if _, errno := command.connects(t, other.addr, 0); errno != 0 || calls.Led() || calls.Astray() != nil {
		t.Errorf("to another address: %v", errno)
	}
	datagrams := command.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
	raw := rawAddress(at)
	command.Must(t, 0, unix.SYS_CONNECT, datagrams, raw, len(raw))
	if calls.Led() || !calls.Elsewhere() {
		t.Error("datagrams were led")
	}
	bound := command.bindTo(t, loopback, 0)
	command.Must(t, 0, unix.SYS_CONNECT, bound.fd, raw, len(raw))
	if n := kind.takes(t, old.puppet, was); n != 1 || calls.Astray() == nil {
		t.Errorf("from a port of its own: %d connections reached the old generation; astray: %v", n, calls.Astray())
	}
}
