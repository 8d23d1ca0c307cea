package sockets

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
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

// A generation that was not staged can be followed by one that is: the option is set on its socket when that
// listens already.
func TestStageLate(t *testing.T) {
	for _, kind := range stagedKinds {
		if kind.option || kind.kind == unix.SOCK_DGRAM {
			continue
		}
		kind.reuse = true
		t.Run(kind.name, func(t *testing.T) {
			knocks := NewKnocks()
			at := kind.unused(t)
			old := launch(t, 1, notify.LevelListeners, nil, knocks, 0)
			was := kind.listens(t, old.puppet, at)
			for range 3 { // accepted before, and kept
				dial(t, kind.target(at))
				old.Must(t, 0, unix.SYS_ACCEPT4, was.fd, 0, 0, 0)
			}
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

// What was bound without the options that it takes is planted, and the log says so once.
func TestStageTooLate(t *testing.T) {
	for _, kind := range []stagedKind{stagedKinds[0], stagedKinds[8]} {
		t.Run(kind.name, func(t *testing.T) {
			at := kind.unused(t)
			knocks := NewKnocks()
			old := launch(t, 1, notify.LevelListeners, nil, knocks, 0)
			was := kind.listens(t, old.puppet, at)
			next := launchStaged(t, 2, collect(t, old), knocks)
			is := kind.listens(t, next.puppet, at)
			if next.inode(t, is.fd) != old.inode(t, was.fd) {
				t.Error("it is not planted")
			}
			why := next.tracker.PlantedInstead()
			if len(why) != 1 || !strings.Contains(why[fmt.Sprint(kind.network(), "://", at)], "SO_REUSEPORT") {
				t.Error(why)
			}
			if _, err := next.tracker.DialProbe(t.Context(), kind.network(), at.String()); !errors.Is(err, ErrShared) {
				t.Errorf("a probe: %v", err)
			}
		})
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
