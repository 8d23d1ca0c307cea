package suite

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// inner is a service that is its own client; back is the second address of those that have one.
func inner(t *testing.T, kind string, port int, back string) service {
	return service{name: kind, addr: "127.0.0.1:" + strconv.Itoa(port), ask: askHTTP,
		command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/inner.py", kind, strconv.Itoa(port), back}}
}

// TestFaultB1OwnClient: a connection of which both ends are one generation's holds no drain up, and in exec mode the
// generation can use its own sockets until its clients are answered.
func TestFaultB1OwnClient(t *testing.T) {
	const restarts = 3
	for name, make := range map[string]func(t *testing.T) service{
		"self":      func(t *testing.T) service { return inner(t, "keeps", freePort(t), "") },
		"pool":      func(t *testing.T) service { return inner(t, "pool", freePort(t), strconv.Itoa(freePort(t))) },
		"unix pool": func(t *testing.T) service { return inner(t, "pool", freePort(t), shortDir(t)+"/back") },
		"asks":      func(t *testing.T) service { return inner(t, "asks", freePort(t), strconv.Itoa(freePort(t))) },
		"asks unix": func(t *testing.T) service { return inner(t, "asks", freePort(t), shortDir(t)+"/back") },
		"datagrams": func(t *testing.T) service { return inner(t, "udp", freePortOfBoth(t), "") },
	} {
		for _, mode := range []string{"--fork", "--exec"} {
			if strings.HasSuffix(name, "pool") && mode == "--fork" {
				continue // its front may get the old one's back, and then needs it
			}
			t.Run(name+" "+mode[2:], func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					s := make(t)
					h := s.run(t, level, mode, "--drain-timeout=10s")
					h.await("generation ready", 1)
					began := time.Now()
					l := startClients(t, s.addr, s.ask, 1, 1, 1, 4, 4, 4)
					h.restartsUnder(l, restarts, func(int) {}, name+" at "+level)
					if n := h.count("stop signal sent"); n != restarts {
						t.Errorf("%d stop signals for %d restarts", n, restarts)
					}
					for _, e := range h.all("stop signal sent") {
						if e.Why != "drained" {
							t.Errorf("generation %d got its stop signal for: %s", e.Generation, e.Why)
						}
					}
					t.Logf("%v", time.Since(began).Round(time.Millisecond))
				})
			})
		}
	}
}

// all returns the events of this message.
func (s *supervisor) all(msg string) (list []event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Msg == msg {
			list = append(list, e)
		}
	}
	return list
}
