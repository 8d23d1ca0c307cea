package suite

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFaultB4Descriptors: huptime has descriptors enough for a new generation and too few for what takes the place of the old one's sockets. The restart
// fails before anything is taken from the old one, and the next, with more of them, succeeds.
func TestFaultB4Descriptors(t *testing.T) {
	const sockets = 40
	eachLevel(t, func(t *testing.T, level string) {
		s := golang(t)
		addrs := []string{s.addr}
		for len(addrs) < sockets {
			addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
		}
		for i, arg := range s.command {
			if arg == s.addr {
				s.command[i] = strings.Join(addrs, ",")
			}
		}
		h := s.run(t, level)
		open := func() int {
			list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		before := open()
		var was unix.Rlimit
		if err := unix.Prlimit(h.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
			t.Fatal(err)
		}
		few := was
		few.Cur = uint64(before + sockets + 20) // copies of all sockets, a launch, and not 40 placeholders
		if err := unix.Prlimit(h.cmd.Process.Pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
			t.Fatal(err)
		}
		failsToRestart(t, h, s, 2, "too many open files")
		if n := open(); n > before {
			t.Errorf("%d descriptors are open after the failed restart, %d were before", n, before)
		}
		for _, addr := range addrs {
			if !alive(addr) {
				t.Errorf("nobody listens on %s", addr)
			}
		}
		if err := unix.Prlimit(h.cmd.Process.Pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			t.Fatal(err)
		}
		l := startLoad(t, s.addr, s.ask, clients)
		l.awaitNewPID(0)
		answered := l.pids()
		h.hup()
		h.await("restart finished", 2)
		l.awaitNewPID(answered)
		h.await("generation ended", 1)
		l.check("with descriptors enough at " + level)
		if n := h.count("old generation not gated wholly"); n > 0 {
			t.Error("the old generation was not gated wholly")
		}
	})
}
