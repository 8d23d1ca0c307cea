package suite

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStageTwentyRestarts: each version has sockets of its own, and its clients come all at once.
func TestStageTwentyRestarts(t *testing.T) {
	const restarts = 20
	for name, make := range usualServices {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				h := s.run(t, level, "--stage")
				h.restartsUnderLoad(s, restarts, name+" staged at "+level)
			})
		})
	}
}

// TestStageFamilies: both address families, wildcards and multipath TCP.
func TestStageFamilies(t *testing.T) {
	for _, network := range []string{"plain", "mptcp", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := golang(t)
				host := "127.0.0.1"
				if network == "tcp6" {
					host = "[::1]"
				}
				port := freePort(t)
				s.command[2], s.addr = fmt.Sprintf("%s/%s:%d", network, host, port), fmt.Sprintf("%s:%d", host, port)
				h := s.run(t, level, "--stage")
				h.restartsUnderLoad(s, 5, network+" staged at "+level)
			})
		})
	}
}

// TestStageWayBack: a staged version that dies on probation gives all its clients back.
func TestStageWayBack(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := versioned(t, "go")
		h := s.run(t, level, "--stage", "--min-ready=1500ms")
		l := startClients(t, s.addr, s.ask, 1, 1)
		write(t, s.config, "exits after 1 s")
		h.hup()
		h.await("restart failed", 2)
		h.await("generation serves again", 1)
		before := time.Now()
		s.mustAnswer(t)
		t.Logf("answered %v later", time.Since(before))
		l.end()
		t.Logf("%d failed of %d requests", len(l.failures), l.requests)
		if len(l.failures) > 4 { // what the dead version had accepted, and what waited for it
			t.Errorf("%d failed of %d requests: %v", len(l.failures), l.requests, l.failures[0])
		}
	})
}

// TestStageMulti: copies of a service share a staged socket.
func TestStageMulti(t *testing.T) {
	for _, flag := range []string{"--multi=2", "--multi-reuseport"} {
		eachLevel(t, func(t *testing.T, level string) {
			t.Run(flag, func(t *testing.T) {
				t.Parallel()
				s := golang(t)
				flags := []string{"--stage", "--multi=2"}
				if flag == "--multi-reuseport" {
					flags = append(flags, flag)
				}
				h := s.run(t, level, flags...)
				h.restartsUnderLoad(s, 5, flag+" staged at "+level)
			})
		})
	}
}

// TestStageExec: in exec mode clients wait, staged or not.
func TestStageExec(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level, "--stage", "--exec")
		h.restartsUnderLoad(s, 5, "staged in exec mode at "+level)
	})
}

// TestStageExecFetched: where pidfd_getfd is denied a socket is sent to huptime before its bind. No copy of it stays,
// which would go on to listen when the generation has the one in which clients wait.
func TestStageExecFetched(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := readying(t)
		write(t, s.config, "notify=0.3")
		flags := []string{"--track=" + level, "--exec", "--ready=notify", "--"}
		h := start(t, append(flags, s.command...), denied("pidfd_getfd", unix.EPERM))
		h.await("generation ready", 1)
		h.restartsUnder(startClients(t, s.addr, s.ask, 1, 1, 1, 1), 8, func(int) {}, "fetched at "+level)
	})
}

// TestStageGroup: SO_REUSEPORT groups of the service's own that grow and shrink from one version to the next.
func TestStageGroup(t *testing.T) {
	const restarts = 8
	for name, make := range map[string]func(t *testing.T) grouped{"go": groupedGo, "ipv6": groupedGo6, "nginx": groupedNginx} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				s.set(4)
				h := s.run(t, level, "--stage")
				h.changesUnderLoad(s.service, restarts, func(i int) { s.set(2 + 2*(i%2)) }, name+" staged at "+level)
			})
		})
	}
}
