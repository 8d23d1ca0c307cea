package suite

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// freeUDPPort asks the kernel for a port that nobody has, on both loopback addresses. Nobody holds it: a datagram socket that
// did would get the datagrams.
func freeUDPPort(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet6{}); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return addr.(*unix.SockaddrInet6).Port
}

// freePortOfBoth is a freePort that no datagram socket has.
func freePortOfBoth(t *testing.T) int {
	t.Helper()
	for {
		port := freePort(t)
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port})
		unix.Close(fd)
		if err == nil {
			return port
		}
		if err != unix.EADDRINUSE {
			t.Fatal(err)
		}
	}
}

// restartsUnderQuestions restarts the service so many times in a row, and fails the test where a question is not answered exactly once.
func (h *supervisor) restartsUnderQuestions(q *questions, restarts int, what string) {
	h.t.Helper()
	q.awaitNew(0)
	for i := range restarts {
		before := q.processes()
		h.hup()
		h.await("restart finished", i+2)
		q.awaitNew(before)
		h.await("generation ended", i+1)
	}
	q.check(what)
	for _, bad := range []string{"restart failed", "generation killed", "old generation not gated wholly", "nobody listens on an address any more; it is closed",
		"a process takes datagrams beside its successor until its stop signal"} {
		if n := h.count(bad); n > 0 {
			h.t.Errorf("%d times %q", n, bad)
		}
	}
}

// TestDatagramsTwentyRestarts: 5,000 questions a second, 20 restarts, and each question is answered once.
func TestDatagramsTwentyRestarts(t *testing.T) {
	const restarts, rate = 20, 5000
	for name, where := range map[string]func(t *testing.T) (network, listen, dial string, more []string){
		"go": func(t *testing.T) (string, string, string, []string) {
			addr := fmt.Sprintf("127.0.0.1:%d", freeUDPPort(t))
			return "udp", "udp/" + addr, addr, nil
		},
		"wildcard": func(t *testing.T) (string, string, string, []string) {
			port := freeUDPPort(t)
			return "udp", fmt.Sprintf("udp/:%d", port), fmt.Sprintf("127.0.0.1:%d", port), nil
		},
		"blocking": func(t *testing.T) (string, string, string, []string) {
			addr := fmt.Sprintf("127.0.0.1:%d", freeUDPPort(t))
			return "udp", "udp:block/" + addr, addr, nil
		},
		"ipv6": func(t *testing.T) (string, string, string, []string) {
			addr := fmt.Sprintf("[::1]:%d", freeUDPPort(t))
			return "udp", "udp6/" + addr, addr, nil
		},
		"later": func(t *testing.T) (string, string, string, []string) { // questions in hand at the gate
			addr := fmt.Sprintf("127.0.0.1:%d", freeUDPPort(t))
			return "udp", "udp/" + addr, addr, []string{"-after", "150ms"}
		},
		"unix": func(t *testing.T) (string, string, string, []string) {
			path := shortDir(t) + "/s"
			return "unixgram", "unixgram/" + path, path, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				network, listen, dial, more := where(t)
				s := service{name: name, command: append([]string{goserver, "-datagrams", listen}, more...)}
				h := s.run(t, level)
				q := startQuestions(t, network, dial, rate, askEcho, tellEcho)
				h.restartsUnderQuestions(q, restarts, name+" at "+level)
			})
		})
	}
}

// TestDatagramsInOtherModes: while no generation serves, and with several copies of a service on one socket or on a group, no question is lost either.
func TestDatagramsInOtherModes(t *testing.T) {
	const restarts, rate = 6, 5000
	for _, flags := range [][]string{{"--exec"}, {"--multi=3"}, {"--multi=3", "--multi-reuseport"}, {"--multi=3", "--multi-reuseport", "--exec"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				addr := fmt.Sprintf("127.0.0.1:%d", freeUDPPort(t))
				s := service{name: "udp", command: []string{goserver, "-datagrams", "udp/" + addr}}
				h := s.run(t, level, flags...)
				q := startQuestions(t, "udp", addr, rate, askEcho, tellEcho)
				h.restartsUnderQuestions(q, restarts, fmt.Sprint("udp ", flags, " at ", level))
			})
		})
	}
}

// TestDatagramsWithoutPidfdGetfd: as in a container with the default profile.
func TestDatagramsWithoutPidfdGetfd(t *testing.T) {
	const restarts, rate = 6, 5000
	for _, kind := range []string{"udp", "udp:block"} {
		t.Run(kind, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				addr := fmt.Sprintf("127.0.0.1:%d", freeUDPPort(t))
				h := start(t, []string{"--track=" + level, goserver, "-datagrams", kind + "/" + addr}, denied("pidfd_getfd", unix.EPERM))
				h.await("generation ready", 1)
				q := startQuestions(t, "udp", addr, rate, askEcho, tellEcho)
				h.restartsUnderQuestions(q, restarts, kind+" at "+level)
			})
		})
	}
}
