package suite

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// configured is a Go service whose addresses are in its configuration file.
func configured(t *testing.T, addr string) service {
	t.Helper()
	s := golang(t)
	s.command = []string{goserver, "-addr", "127.0.0.1:0", "-config", s.config}
	write(t, s.config, "also="+addr)
	return s
}

// TestOverlappingAddress: a new version that binds an address which overlaps that of the old one can't start beside it, and
// the log says why and what to do. The old one serves on. With --exec the change is made.
func TestOverlappingAddress(t *testing.T) {
	for name, change := range map[string]struct{ from, to string }{
		"all to one":    {"tcp4/0.0.0.0:%d", "tcp4/127.0.0.1:%d"},
		"one to all":    {"tcp4/127.0.0.1:%d", "tcp4/0.0.0.0:%d"},
		"dual to IPv4":  {"[::]:%d", "tcp4/127.0.0.1:%d"},
		"dual to IPv6":  {"[::]:%d", "tcp6/[::]:%d"},
		"IPv4 to dual":  {"tcp4/0.0.0.0:%d", "[::]:%d"},
		"dual to MPTCP": {"[::]:%d", "mptcp/127.0.0.1:%d"},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				port := freePort(t)
				from, to := fmt.Sprintf(change.from, port), fmt.Sprintf(change.to, port)
				s := configured(t, from)
				s.addr = fmt.Sprintf("127.0.0.1:%d", port)
				h := s.run(t, level)
				l := startLoad(t, s.addr, s.ask, 2)
				l.awaitNewPID(0)
				write(t, s.config, "also="+to)
				h.hup()
				e := h.await("restart failed", 2)
				for _, want := range []string{address(from), address(to), "--exec"} {
					if !strings.Contains(e.Reason, want) {
						t.Errorf("the reason %q does not name %s", e.Reason, want)
					}
				}
				l.check("the old generation")

				write(t, s.config, "also="+from)
				h.signal(syscall.SIGTERM)
				h.exit()
				h = s.run(t, level, "--exec")
				write(t, s.config, "also="+to)
				h.hup()
				h.await("restart finished", 2)
				if !strings.HasPrefix(to, "tcp6") {
					s.mustAnswer(t)
				}
			})
		})
	}
}

func address(a string) string {
	if _, rest, ok := strings.Cut(a, "/"); ok {
		return rest
	}
	return a
}

// TestChangedAddresses: another address, one more, one less. What stays is not interrupted, what is new runs untouched, and what nobody binds any
// more is closed when the old generation is gone, and named.
func TestChangedAddresses(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		other := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		third := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		write(t, s.config, "also="+other)
		h := s.run(t, level, "--allow-address-change")
		l := startLoad(t, s.addr, s.ask, clients)
		l.awaitNewPID(0)
		answers := func(addr string) {
			t.Helper()
			at := s
			at.addr = addr
			at.mustAnswer(t)
		}
		answers(other)
		write(t, s.config, "also="+third) // one for another
		h.hup()
		h.await("restart finished", 2)
		h.await("generation ended", 1)
		answers(third)
		if e := h.await("nobody listens on an address any more; it is closed", 2); e.Address != "tcp://"+other {
			t.Errorf("%+v", e)
		}
		if alive(other) {
			t.Error("the address that was dropped accepts connections")
		}
		write(t, s.config, "also="+third+" also="+other) // one more
		h.hup()
		h.await("restart finished", 3)
		h.await("generation ended", 2)
		answers(third)
		answers(other)
		os.Remove(s.config) // less
		h.hup()
		h.await("restart finished", 4)
		h.await("generation ended", 3)
		if alive(other) || alive(third) {
			t.Error("an address that was dropped accepts connections")
		}
		l.check("the address that stays")
	})
}

// TestDeliberateClose: a listening socket that the service closes while it runs is really closed: clients are refused. What huptime
// itself listens on (--listen) is not the service's to close.
func TestDeliberateClose(t *testing.T) {
	for name, flags := range map[string][]string{"plain": nil, "revive": {"--revive"}, "exec": {"--exec"}, "copies": {"--multi=2"}} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := golang(t, "-close-at-usr1")
				h := s.run(t, level, flags...)
				h.signal(syscall.SIGUSR1)
				if name == "revive" || name == "copies" {
					h.await("the service has closed a listening socket", 1)
				} else {
					h.awaitOutput("closed its listening socket")
				}
				if c, err := net.Dial("tcp", s.addr); err == nil {
					c.Close()
					t.Error("a client is not refused")
				}
				// Nor does a restart bring the old socket back: the new generation makes its own.
				h.hup()
				h.await("restart finished", 2)
				s.mustAnswer(t)
			})
		})
	}
	t.Run("listen", func(t *testing.T) {
		eachLevel(t, func(t *testing.T, level string) {
			t.Parallel()
			s := golang(t, "-close-at-usr1")
			h := s.run(t, level, "--listen=tcp://"+s.addr)
			h.signal(syscall.SIGUSR1)
			h.awaitOutput("closed its listening socket")
			l := startLoad(t, s.addr, s.ask, 1) // they wait
			h.hup()
			h.await("restart finished", 2)
			l.awaitNewPID(0)
			l.check("who waited")
		})
	})
}
