package sockets

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

// A bind that overlaps an address of the old generation is let through, fails, and is remembered. Where the old one
// is over, the address is given up.
func TestInTheWay(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		old := launch(t, 1, level, nil, knocks, 0)
		s := old.listenOn(t, netip.MustParseAddrPort("0.0.0.0:0"), 0)
		p := collect(t, old)
		next := launch(t, 2, level, p, knocks, 0)
		bind := func() (int, unix.Errno) {
			fd := next.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
			next.Must(t, 0, unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, []byte{1, 0, 0, 0}, 4)
			raw := rawAddress(netip.AddrPortFrom(loopback.Addr(), s.addr.Port()))
			return fd, next.Call(t, 0, unix.SYS_BIND, fd, raw, len(raw)).Errno
		}
		_, errno := bind()
		why := next.tracker.Obstacle()
		if errno != unix.EADDRINUSE || !strings.Contains(why, "tcp://0.0.0.0:") || !strings.Contains(why, "tcp://127.0.0.1:") || !strings.Contains(why, "--exec") {
			t.Fatalf("%v, %q", errno, why)
		}
		old.Must(t, 0, unix.SYS_CLOSE, s.fd)
		p.Abandoned()
		if fd, errno := bind(); errno != 0 {
			t.Error(errno)
		} else {
			next.Must(t, 0, unix.SYS_LISTEN, fd, 1)
			dial(t, netip.AddrPortFrom(loopback.Addr(), s.addr.Port()))
		}
		if list := p.Unclaimed(); len(list) != 1 || list[0].fd >= 0 {
			t.Errorf("%v", list)
		}
	})
}
