package suite

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
)

// keepsEOF is keeps_eof.py at a port or a path, and the file that says how its next version is: blocking at first.
func keepsEOF(t *testing.T, addr, where string) (s service, how string) {
	t.Helper()
	how = write(t, filepath.Join(t.TempDir(), "how"), "blocking")
	return service{name: "keeps", addr: addr, ask: askHTTP,
		command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/keeps_eof.py", where, how}}, how
}

// TestFaultF5KeepsEOF: what huptime itself connects, to wake somebody up or to ask, is none of a service's clients:
// a service that does not close what ends without a word is drained all the same.
func TestFaultF5KeepsEOF(t *testing.T) {
	for _, probed := range []bool{false, true} {
		for _, mode := range []string{"--fork", "--exec"} {
			t.Run(fmt.Sprintf("%s, probed %v", mode[2:], probed), func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					port := strconv.Itoa(freePort(t))
					s, how := keepsEOF(t, "127.0.0.1:"+port, port)
					flags := []string{mode}
					if probed {
						flags = append(flags, "--stage=false", "--ready=tcp://"+s.addr)
					}
					h := s.run(t, level, flags...)
					change := func(i int) {
						write(t, how, []string{"nonblocking", "blocking", "blocking"}[i%3])
					}
					h.restartsUnder(startClients(t, s.addr, s.ask, 1, 1, 1, 1), 8, change, "keeps at "+level)
				})
			})
		}
	}
}

// TestFaultF5KeepsEOFAtPath: likewise of unix sockets, whose connections have no ports to tell huptime's own by.
func TestFaultF5KeepsEOFAtPath(t *testing.T) {
	for _, mode := range []string{"--fork", "--exec"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				path := shortDir(t) + "/s"
				s, _ := keepsEOF(t, path, path)
				h := s.run(t, level, mode)
				h.restartsUnder(startClients(t, s.addr, s.ask, 1, 1, 1, 1), 8, func(int) {}, "keeps at a path at "+level)
			})
		})
	}
}
