package suite

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestFaultA7InFlight: a listening socket that is in a message is not closed: the restart fails in words, and nobody
// notices.
func TestFaultA7InFlight(t *testing.T) {
	for _, mode := range []string{"--fork", "--exec"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				port, file := freePort(t), filepath.Join(t.TempDir(), "fly")
				s := service{name: "flight", addr: "127.0.0.1:" + strconv.Itoa(port), ask: askHTTP,
					command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/in_flight.py", strconv.Itoa(port), file}}
				h := s.run(t, level, mode)
				l := startClients(t, s.addr, s.ask, 1, 1, 1)
				l.awaitNewPID(0)
				write(t, file, "")
				h.awaitOutput("in flight")
				h.hup()
				if e := h.await("restart failed", 2); !strings.Contains(e.Reason, "SCM_RIGHTS") {
					t.Errorf("the reason is %q", e.Reason)
				}
				os.Remove(file)
				h.awaitOutput("landed")
				before := l.pids()
				h.hup()
				h.await("restart finished", 0)
				l.awaitNewPID(before)
				l.check("in flight at " + level)
			})
		})
	}
}
