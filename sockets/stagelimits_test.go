package sockets

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"huptime/notify"
)

// tryBind makes a socket in a puppet and tries to bind it.
func (k stagedKind) tryBind(t *testing.T, p *puppet, at netip.AddrPort, reuse int) (fd int, errno unix.Errno) {
	t.Helper()
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd = p.Must(t, 0, unix.SYS_SOCKET, family, k.kind|unix.SOCK_NONBLOCK, k.protocol)
	if reuse != 0 {
		p.Must(t, 0, unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, reuse, []byte{1, 0, 0, 0}, 4)
	}
	raw := rawAddress(at)
	return fd, p.Call(t, 0, unix.SYS_BIND, fd, raw, len(raw)).Errno
}

// What had to fail without the option fails with it.
func TestStageFailsAsEver(t *testing.T) {
	tcp, udp := stagedKinds[0], stagedKinds[8]
	for _, kind := range []stagedKind{tcp, udp} {
		t.Run(kind.name, func(t *testing.T) {
			at := kind.unused(t)
			any := netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
			both := netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
			knocks := NewKnocks()
			old := launchStaged(t, 1, nil, knocks)
			kind.listens(t, old.puppet, at)
			inUse := func(p *puppet) {
				t.Helper()
				for _, addr := range []netip.AddrPort{at, any, both} {
					for _, reuse := range []int{0, unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
						fd, errno := kind.tryBind(t, p, addr, reuse)
						if errno != unix.EADDRINUSE {
							t.Errorf("a second bind to %v (option %d): %v", addr, reuse, errno)
						}
						// A free one can be had instead, by the same socket.
						free := kind.unused(t)
						if addr.Addr().Is4() {
							raw := rawAddress(free)
							p.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
						}
						p.Must(t, 0, unix.SYS_CLOSE, fd)
					}
				}
			}
			inUse(old.puppet)
			// A new generation may have it once, too, also after it has only tried.
			next := launchStaged(t, 2, collect(t, old), knocks)
			fd, errno := kind.tryBind(t, next.puppet, at, 0)
			if errno != 0 {
				t.Fatal(errno)
			}
			next.Must(t, 0, unix.SYS_CLOSE, fd)
			kind.listens(t, next.puppet, at)
			inUse(next.puppet)
			if n := len(next.tracker.Staged()); n != 1 {
				t.Errorf("%d are staged", n)
			}
		})
	}
}

// Nobody outside of huptime gets company.
func TestStageOutsider(t *testing.T) {
	config := net.ListenConfig{Control: shareOption(t)}
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "[::]"} {
		l, err := config.Listen(t.Context(), "tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(l.Addr().(*net.TCPAddr).Port))
		g := launchStaged(t, 1, nil, NewKnocks())
		if _, errno := stagedKinds[0].tryBind(t, g.puppet, at, 0); errno != unix.EADDRINUSE {
			t.Errorf("beside %s: %v", host, errno)
		}
		if host != "127.0.0.1" {
			continue
		}
		if _, errno := stagedKinds[0].tryBind(t, g.puppet, at, unix.SO_REUSEPORT); errno != 0 {
			t.Errorf("by the service's own choice: %v", errno)
		}
	}
}

// A generation that was not staged can be followed by one that is: the option is set on its socket when that listens already.
func TestStageLate(t *testing.T) {
	for _, kind := range stagedKinds {
		if kind.option || kind.kind == unix.SOCK_DGRAM {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			knocks := NewKnocks()
			at := kind.unused(t)
			old := launch(t, 1, notify.LevelListeners, nil, knocks, 0)
			was := kind.listens(t, old.puppet, at)
			preserved := collect(t, old)
			next := launchStaged(t, 2, preserved, knocks)
			clients := kind.crowd(at)
			clients.until(t, 10)
			is := kind.listens(t, next.puppet, at)
			if why := next.tracker.PlantedInstead(); len(why) > 0 {
				t.Fatal(why)
			}
			clients.until(t, 20)
			if n := kind.takes(t, next.puppet, is); n > 0 {
				t.Errorf("%d clients came before the switch", n)
			}
			if err := next.tracker.Switch(t.Context()); err != nil {
				t.Fatal(err)
			}
			clients.until(t, 20)
			sent := clients.over(t)
			a, b := kind.takes(t, old.puppet, was), kind.takes(t, next.puppet, is)
			if a+b != sent || a == 0 || b == 0 {
				t.Errorf("%d clients: %d to the old, %d to the new", sent, a, b)
			}
		})
	}
}

// A datagram socket that was bound without the option is planted, and the log says so once.
func TestStageLateDatagrams(t *testing.T) {
	kind := stagedKinds[8]
	at := kind.unused(t)
	knocks := NewKnocks()
	old := launch(t, 1, notify.LevelListeners, nil, knocks, 0)
	was := kind.listens(t, old.puppet, at)
	next := launchStaged(t, 2, collect(t, old), knocks)
	is := kind.listens(t, next.puppet, at)
	if next.inode(t, is.fd) != old.inode(t, was.fd) {
		t.Error("it is not planted")
	}
	if why := next.tracker.PlantedInstead(); len(why) != 1 || !strings.Contains(why["udp://"+at.String()], "SO_REUSEPORT") {
		t.Error(why)
	}
}

// One generation after the other: what a restart leaves of the kernel's state is nothing, and one that fails leaves nothing either.
func TestStageAgain(t *testing.T) {
	for _, kind := range stagedKinds {
		t.Run(kind.name, func(t *testing.T) {
			knocks := NewKnocks()
			at := kind.unused(t)
			current := launchStaged(t, 1, nil, knocks)
			s := kind.listens(t, current.puppet, at)
			clients := kind.crowd(at)
			total := 0
			for number := 2; number < 6; number++ {
				preserved := collect(t, current)
				next := launchStaged(t, number, preserved, knocks)
				is := kind.listens(t, next.puppet, at)
				clients.until(t, 10)
				if number%2 == 0 { // it fails
					if n := kind.takes(t, next.puppet, is); n > 0 {
						t.Errorf("generation %d got %d clients", number, n)
					}
					_ = unix.Kill(-next.PID, unix.SIGKILL)
					eventually(t, "it is over", func() bool { return len(group(next.PID)) == 0 })
					next.tracker.Close()
					preserved.Close()
					continue
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				clients.until(t, 10)
				total += kind.takes(t, current.puppet, s)
				_ = unix.Kill(-current.PID, unix.SIGKILL)
				eventually(t, "it is over", func() bool { return len(group(current.PID)) == 0 })
				current.tracker.Close()
				preserved.Close()
				current, s = next, is
			}
			sent := clients.over(t)
			if total += kind.takes(t, current.puppet, s); total != sent {
				t.Errorf("%d of %d clients were served", total, sent)
			}
			eventually(t, "nothing is left", func() bool {
				g := knocks.ports.all()
				g[0].mu.Lock()
				defer g[0].mu.Unlock()
				return len(g) == 1 && g[0].helper < 0 && len(g[0].handles) == 0 && len(g[0].of) == 1 && len(g[0].array) == 1 && len(knocks.ports.homes) == 1
			})
		})
	}
}

// A drain counts the connections of a generation that needs no gate.
func TestStageDrain(t *testing.T) {
	knocks := NewKnocks()
	kind := stagedKinds[0]
	at := kind.unused(t)
	old := launchStaged(t, 1, nil, knocks)
	was := kind.listens(t, old.puppet, at)
	serves(t, old.puppet, was)
	dial(t, at) // waits in the queue
	preserved := collect(t, old)
	next := launchStaged(t, 2, preserved, knocks)
	is := kind.listens(t, next.puppet, at)
	if err := next.tracker.Switch(t.Context()); err != nil {
		t.Fatal(err)
	}
	old.tracker.Shrink(preserved)
	if list := preserved.Claimed(); len(list) > 0 {
		t.Fatalf("to be gated: %v", list)
	}
	if err := old.tracker.Gate(t.Context(), preserved.Claimed()); err != nil {
		t.Fatal(err)
	}
	serves(t, next.puppet, is)
	newer := func() []int { return group(next.PID) }
	if n, err := old.tracker.Outstanding(newer); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	stopped := make(chan error, 1)
	go func() {
		stopped <- old.tracker.AwaitDrained(t.Context(), preserved.Claimed, newer, func() {})
	}()
	queued := old.Must(t, 0, unix.SYS_ACCEPT4, was.fd, 0, 0, 0)
	select {
	case <-stopped:
		t.Fatal("it has two connections")
	default:
	}
	for fd := 3; fd <= queued; fd++ {
		old.closeConnection(t, fd)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// closeConnection closes a descriptor if it is a connection.
func (p *puppet) closeConnection(t *testing.T, fd int) {
	t.Helper()
	if r := p.Call(t, 0, unix.SYS_GETPEERNAME, fd, make([]byte, 128), []byte{128, 0, 0, 0}); r.Errno == 0 {
		if a, err := ParseSockaddr(r.Memory[1][:sizeofSockaddrIn]); err == nil && a.Family == unix.AF_INET {
			p.Must(t, 0, unix.SYS_CLOSE, fd)
		}
	}
}

func shareOption(t *testing.T) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if failed != nil {
			t.Error(failed)
		}
		return err
	}
}

// Where pidfd_getfd is denied the caller is made to send its socket, and to bind once more.
func TestStageDenied(t *testing.T) {
	for _, level := range []notify.Level{notify.LevelListeners, notify.LevelConnections} {
		for _, kind := range stagedKinds {
			t.Run(string(level)+" "+kind.name, func(t *testing.T) {
				knocks := NewKnocks()
				at := kind.unused(t)
				deny := func(tr *Tracker) {
					if err := tr.Stage(); err != nil {
						t.Fatal(err)
					}
					tr.stage.copyCaller = func(int, int) (int, error) { return -1, unix.EPERM }
				}
				old := launchPrepared(t, 1, level, nil, knocks, 0, deny)
				was := kind.listens(t, old.puppet, at)
				next := launchPrepared(t, 2, level, collect(t, old), knocks, 0, deny)
				is := kind.listens(t, next.puppet, at)
				if why := next.tracker.PlantedInstead(); len(why) > 0 || len(next.tracker.Staged()) != 1 {
					t.Fatal("planted:", why)
				}
				for range 8 {
					ask(t, Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range 8 {
					ask(t, Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				if a, b := kind.takes(t, old.puppet, was), kind.takes(t, next.puppet, is); a != 8 || b != 8 {
					t.Errorf("%d came to the old one, %d to the new one", a, b)
				}
				fd, errno := kind.tryBind(t, next.puppet, at, 0)
				if errno != unix.EADDRINUSE {
					t.Errorf("a second bind: %v", errno)
				}
				next.Must(t, 0, unix.SYS_CLOSE, fd)
			})
		}
	}
}

// The old generation ends while the new one starts: clients wait, and are served by the new one, in the old socket where it does not listen yet.
func TestStageSuddenEnd(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, kind := range stagedKinds {
			t.Run(fmt.Sprint(kind.name, ", the new one listens: ", early), func(t *testing.T) {
				if kind.option && !early || kind.kind == unix.SOCK_DGRAM && !early {
					t.Skip("clients that come before the new generation does are lost with the old one's sockets")
				}
				knocks := NewKnocks()
				at := kind.unused(t)
				old := launchStaged(t, 1, nil, knocks)
				kind.listens(t, old.puppet, at)
				preserved := collect(t, old)
				next := launchStaged(t, 2, preserved, knocks)
				is := kind.opens(t, next.puppet, at)
				if early && kind.kind == unix.SOCK_STREAM {
					next.Must(t, 0, unix.SYS_LISTEN, is.fd, 4096)
				}
				_ = unix.Kill(-old.PID, unix.SIGKILL)
				eventually(t, "it is over", func() bool { return len(group(old.PID)) == 0 })
				preserved.Abandoned()
				for range 8 {
					ask(t, Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				if !early {
					next.Must(t, 0, unix.SYS_LISTEN, is.fd, 4096)
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := kind.takes(t, next.puppet, is); n != 8 {
					t.Errorf("%d of 8 clients were served", n)
				}
			})
		}
	}
}
