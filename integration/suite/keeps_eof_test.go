package suite

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
)

// TestFaultF5KeepsEOF: what huptime itself connects, to wake somebody up or to ask, is none of a service's clients:
// a service that does not close what ends without a word is drained all the same.
func TestFaultF5KeepsEOF(t *testing.T) {
	for _, probed := range []bool{false, true} {
		for _, mode := range []string{"--fork", "--exec"} {
			t.Run(fmt.Sprintf("%s, probed %v", mode[2:], probed), func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					port := strconv.Itoa(freePort(t))
					how := write(t, filepath.Join(t.TempDir(), "how"), "blocking")
					s := service{name: "keeps", addr: "127.0.0.1:" + port, ask: askHTTP,
						command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/keeps_eof.py", port, how}}
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
				how := write(t, filepath.Join(t.TempDir(), "how"), "blocking")
				s := service{name: "keeps", addr: path, ask: askHTTP,
					command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/keeps_eof.py", path, how}}
				h := s.run(t, level, mode)
				h.restartsUnder(startClients(t, s.addr, s.ask, 1, 1, 1, 1), 8, func(int) {}, "keeps at a path at "+level)
			})
		})
	}
}
