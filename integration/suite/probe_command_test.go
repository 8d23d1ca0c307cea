package suite

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asking is the flag for a probe that runs asks.py, and the file with its answers.
func asking(t *testing.T, s service, way string) (flag, file string) {
	t.Helper()
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "answers")
	command := strings.Join([]string{program(t, "/usr/bin/python3", "python3"), "testdata/asks.py", way, host, port, file}, " ")
	return "--ready=exec:" + command, file
}

// answered checks that each answer to a probe came from the generation that was asked about, and that it was refused first.
func (s *supervisor) answered(file string, generations int) {
	s.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	refused := make(map[int]int)
	for line := range strings.Lines(string(b)) {
		var generation, status, pid int
		if n, _ := fmt.Sscan(line, &generation, &status, &pid); n != 3 {
			s.t.Fatalf("an answer is %q", line)
		}
		if want := s.await("generation started", generation).PID; pid != want {
			s.t.Errorf("generation %d was asked about, process %d, and process %d has answered %d", generation, want, pid, status)
		}
		if status == 503 {
			refused[generation]++
		}
	}
	for generation := 2; generation <= generations; generation++ {
		if refused[generation] == 0 {
			s.t.Errorf("generation %d has never said that it is not ready", generation)
		}
	}
	s.t.Logf("%d answers", strings.Count(string(b), "\n"))
}

// TestProbeCommand: on the stage a command reaches the new version, which refuses it for a second, and nobody else; clients reach the old one.
func TestProbeCommand(t *testing.T) {
	for _, way := range []string{"blocking", "epoll", "poll", "twice", "loop", "blocking denied", "poll denied"} {
		t.Run(way, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := readying(t)
				way, deny := strings.CutSuffix(way, " denied")
				flag, file := asking(t, s, way)
				var options []option
				if deny {
					options = append(options, denied("pidfd_getfd", unix.EPERM))
				}
				write(t, s.config, "health=1")
				h := start(t, append([]string{"--track=" + level, "--stage", flag, "--ready-interval=2s", "--"}, s.command...), options...)
				h.await("generation ready", 1)
				l := startClients(t, s.addr, s.ask, 1, 1, 1, 1)
				l.awaitNewPID(0)
				for i := range 2 {
					before := l.pids()
					h.hup()
					h.await("generation ready", i+2)
					l.awaitNewPID(before)
					h.await("restart finished", i+2)
				}
				l.check(way)
				h.answered(file, 3)
			})
		})
	}
}
