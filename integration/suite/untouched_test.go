package suite

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

// addresses lists what the processes of a generation said that they listen on.
func (s *supervisor) addresses(pid string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []string
	for _, line := range s.output {
		if rest, ok := strings.CutPrefix(line, "listening pid="+pid+" addr="); ok {
			addrs = append(addrs, rest)
		}
	}
	return addrs
}

// TestPortZero: two binds to port 0 get two ports, in every generation other ones.
func TestPortZero(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		s.command[2] = s.addr + ",127.0.0.1:0,127.0.0.1:0"
		h := s.run(t, level)
		first := s.mustAnswer(t)
		h.hup()
		h.await("restart finished", 2)
		h.await("generation ended", 1)
		second := s.mustAnswer(t)
		all := slices.Concat(h.addresses(first.pid)[1:], h.addresses(second.pid)[1:])
		slices.Sort(all)
		if len(slices.Compact(all)) != 4 {
			t.Errorf("the ports are %v; want four different ones", all)
		}
	})
}

// TestTwoFamiliesOnOnePort: an IPv4 socket and an IPv6-only one on the same port are two sockets, each kept.
func TestTwoFamiliesOnOnePort(t *testing.T) {
	port := freePort(t)
	if l, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port)); err != nil {
		missing(t, "no IPv6 here: "+err.Error())
	} else {
		l.Close()
	}
	eachLevel(t, func(t *testing.T, level string) {
		s := golang(t)
		s.command[2] = fmt.Sprintf("tcp4/0.0.0.0:%d,tcp6/[::]:%d", port, port)
		h := s.run(t, level)
		h.awaitOutput(fmt.Sprintf("addr=[::]:%d", port)) // the second
		for _, addr := range []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[::1]:%d", port)} {
			l := startLoad(t, addr, askHTTP, 2)
			defer l.check(addr)
		}
		for i := range 5 {
			h.hup()
			h.await("restart finished", i+2)
			h.await("generation ended", i+1)
		}
	})
}

// TestDualStack: one IPv6 socket that takes IPv4 clients too; and MPTCP, which Go asks for by itself.
func TestDualStack(t *testing.T) {
	for _, network := range []string{"tcp", "mptcp"} {
		t.Run(network, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				port := freePort(t)
				s := golang(t)
				s.command[2] = fmt.Sprintf("%s/[::]:%d", network, port)
				s.addr = fmt.Sprintf("127.0.0.1:%d", port)
				h := s.run(t, level)
				l := startLoad(t, s.addr, askHTTP, 4)
				kept := connect(t, s.addr)
				mustSay(t, kept, "1")
				h.hup()
				h.await("restart finished", 2)
				mustSay(t, kept, "1") // the drain waits for an IPv4 client of an IPv6 socket
				if n := h.count("generation drained"); n > 0 {
					t.Error("drained with a connection open")
				}
				kept.conn.Close()
				h.await("generation ended", 1)
				l.check(network)
			})
		})
	}
}

// TestNewAddress: what a new version binds in addition is bound as without huptime, and kept from then on.
func TestNewAddress(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		second := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		h := s.run(t, level, "--allow-address-change")
		l := startLoad(t, s.addr, s.ask, 2)
		write(t, s.config, "also="+second)
		for i := range 3 {
			h.hup()
			h.await("restart finished", i+2)
			h.await("generation ended", i+1)
			if !alive(second) {
				t.Errorf("nobody listens on the second address after restart %d", i+1)
			}
		}
		// And a version without it closes it.
		os.Remove(s.config)
		h.hup()
		h.await("restart finished", 5)
		h.await("nobody listens on an address any more; it is closed", 5)
		if alive(second) {
			t.Error("the dropped address still accepts connections")
		}
		l.check("new address")
	})
}

// TestOutgoing: connections that the service makes are nobody's business.
func TestOutgoing(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level)
		l := startLoad(t, s.addr, func(c *client) (reply, error) { return get(c, "/out") }, 2)
		for i := range 3 {
			h.hup()
			h.await("restart finished", i+2)
		}
		l.check("outgoing")
	})
}
