package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// versionKinds are services whose next version may be broken; see testdata/versions.py and goserver/versions.go.
var versionKinds = []string{"thread", "asyncio", "prefork", "master", "go"}

// brokenVersion is a way in which a new version is broken, or only slow.
type brokenVersion struct {
	behaviour string
	good      bool // the restart must succeed
	ok        bool // it may succeed: nothing that huptime can see is wrong
	// mayFail says that requests which reach the new version fail by its own doing, where it is planted.
	mayFail bool
	// outage: nothing was to be seen while the old one was there, or it takes that with it, where it is planted.
	outage bool
}

var brokenVersions = []brokenVersion{
	{behaviour: "exits before bind"},
	{behaviour: "exits after bind"},
	{behaviour: "exits after listen"},
	{behaviour: "exits after 1 s", mayFail: true},
	{behaviour: "exits after 4 s", ok: true, outage: true},
	{behaviour: "SIGSEGV", mayFail: true},
	{behaviour: "shuts its listener down", outage: true},
	{behaviour: "warms up 3 s", good: true},
	{behaviour: "never accepts"},
	{behaviour: "crashes at its first client", mayFail: true},
	{behaviour: "answers 500", ok: true, mayFail: true},
	{behaviour: "answers after 3 s", good: true},
	{behaviour: "loads 2 s and fails"},
}

func versioned(t *testing.T, kind string) service {
	t.Helper()
	port := freePort(t)
	file := filepath.Join(t.TempDir(), "behaviour")
	s := service{name: kind, addr: fmt.Sprintf("127.0.0.1:%d", port), ask: askHTTP, config: file}
	if kind == "go" {
		s.command = []string{goserver, "-addr", s.addr, "-versions", file}
	} else {
		s.command = []string{program(t, "/usr/bin/python3", "python3"), "testdata/versions.py", kind, strconv.Itoa(port), file}
	}
	return s
}

// TestBrokenVersions: SIGHUP with a version that is broken in one way, then with a good one, under clients that count what fails.
func TestBrokenVersions(t *testing.T) {
	for _, v := range brokenVersions {
		for _, kind := range versionKinds {
			t.Run(v.behaviour+"/"+kind, func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					if level != "listeners" && kind != "thread" && kind != "go" && os.Getenv("HUPTIME_TEST_ALL") == "" {
						return // two kinds show the difference, and the whole table takes its time
					}
					t.Parallel()
					v.ok = v.ok || (v.behaviour == "SIGSEGV" || v.behaviour == "exits after 1 s") && kind == "master" // it lives on when its workers die
					v.restart(t, versioned(t, kind), level, "--min-ready=1500ms")
				})
			})
		}
	}
}

// TestBrokenVersionsStaged: the same with sockets of its own for each version, and a probe that reaches the new one alone. Nobody else is hurt.
func TestBrokenVersionsStaged(t *testing.T) {
	for _, v := range brokenVersions {
		for _, kind := range versionKinds {
			t.Run(v.behaviour+"/"+kind, func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					if level != "listeners" && kind != "thread" && kind != "go" && os.Getenv("HUPTIME_TEST_ALL") == "" {
						return // two kinds show the difference, and the whole table takes its time
					}
					t.Parallel()
					s := versioned(t, kind)
					// What the new one had accepted when it died is lost, and what waited in its own queue.
					v.mayFail = v.behaviour == "SIGSEGV" || v.behaviour == "exits after 1 s"
					v.outage = v.behaviour == "exits after 4 s"
					v.ok = v.ok || kind == "master" // that of which workers die lives on
					if v.behaviour == "crashes at its first client" || v.behaviour == "answers 500" {
						v.ok = false // the probe is its first client
					}
					v.restart(t, s, level, "--min-ready=1500ms", "--ready=http://"+s.addr+"/", "--ready-interval=4s")
				})
			})
		}
	}
}

func (v brokenVersion) restart(t *testing.T, s service, level string, flags ...string) {
	h := s.run(t, level, append([]string{"--ready-timeout=6s", "--start-retries=0"}, flags...)...)
	old := s.mustAnswer(t)
	l := startClients(t, s.addr, s.ask, 1, 1)
	write(t, s.config, v.behaviour)
	h.hup()
	outcome := ""
	h.until("the outcome", func() bool {
		for _, e := range h.events {
			if e.Msg == "restart failed" || e.Msg == "restart finished" {
				outcome = e.Msg
				if e.Reason != "" {
					t.Logf("reason: %s", e.Reason)
				}
				return true
			}
		}
		return false
	})
	switch finished := outcome == "restart finished"; {
	case v.good && !finished, !v.good && !v.ok && finished:
		t.Errorf("a version that %s: %s", v.behaviour, outcome)
	}
	if v.outage {
		l.end()
		t.Logf("%d failed of %d requests", len(l.failures), l.requests)
		return
	}
	if !v.good && !v.ok {
		if r := s.mustAnswer(t); r.pid != old.pid && s.name != "prefork" && s.name != "master" {
			t.Errorf("process %s answers after the failed restart, want %s", r.pid, old.pid)
		}
	}
	os.Remove(s.config)
	began := time.Now()
	h.hup()
	h.await("restart finished", 3)
	t.Logf("the good version took %v", time.Since(began).Round(time.Millisecond))
	if !v.mayFail {
		l.check(v.behaviour)
		return
	}
	l.end()
	t.Logf("%d failed of %d requests", len(l.failures), l.requests)
}
