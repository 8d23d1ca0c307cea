package suite

import (
	"path/filepath"
	"strconv"
	"testing"
)

// haproxy answers by itself; its body has the process's PID. A worker of -W is a child of the master's.
func haproxy(t *testing.T, flags ...string) service {
	t.Helper()
	addr := "127.0.0.1:" + strconv.Itoa(freePort(t))
	conf := write(t, filepath.Join(t.TempDir(), "haproxy.cfg"), `
global
    maxconn 2000
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
frontend f
    bind `+addr+`
    http-request return status 200 content-type text/plain lf-string "pid=%pid version=1\n"
`)
	command := append([]string{program(t, "haproxy", "/usr/sbin/haproxy"), "-f", conf}, flags...)
	return service{name: "haproxy", command: command, addr: addr, ask: askHTTP}
}

// TestFaultF3Haproxy: TERM ends haproxy at once, so nothing that a client waits for may be left by then.
func TestFaultF3Haproxy(t *testing.T) {
	for name, flags := range map[string][]string{"master": {"-W"}, "alone": {"-db"}} {
		for _, mode := range []string{"--fork", "--exec"} {
			t.Run(name+" "+mode[2:], func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					s := haproxy(t, flags...)
					h := s.run(t, level, mode, "--stop-signal=TERM")
					h.restartsUnderLoad(s, 10, "haproxy "+name+" at "+level)
				})
			})
		}
	}
}
