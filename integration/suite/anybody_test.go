package suite

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func anybody(t *testing.T, addr string, more ...string) service {
	t.Helper()
	s := service{name: "python", command: append([]string{program(t, "/usr/bin/python3", "python3"), "testdata/anybody.py", addr}, more...), addr: addr, ask: askHTTP}
	if _, err := strconv.Atoi(addr); err == nil {
		s.addr = "127.0.0.1:" + addr
	}
	return s
}

// ownAddresses are what such a service may look for itself at. The length of an address is what the filter tells a unix socket by: one that
// is as long as an IPv4 or IPv6 address must be noticed as well.
func ownAddresses(t *testing.T) map[string]string {
	dir := shortDir(t)
	return map[string]string{
		"path":                      dir + "/some.service.sock",
		"path, as long as IPv6":     dir + "/" + strings.Repeat("s", 28-2-len(dir)-2),
		"abstract":                  "@" + dir + ".abstract",
		"abstract, as long as IPv4": "@" + dir[len(dir)-13:],
		"TCP":                       strconv.Itoa(freePort(t)),
	}
}

// TestFaultA3AnybodyThere: a service that connects to its own address before it binds, and refuses to start if somebody answers. While it
// starts nobody does: neither the old generation on a unix socket, nor huptime's duplicate in a gap of exec mode.
func TestFaultA3AnybodyThere(t *testing.T) {
	for name := range ownAddresses(t) {
		for mode, flags := range map[string][]string{"fork": nil, "exec": {"--exec"}} {
			if name == "TCP" && mode == "fork" {
				continue // the old generation does answer: see TestFaultA3Hint
			}
			t.Run(name+", "+mode, func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					addr := ownAddresses(t)[name]
					s := anybody(t, addr)
					h := s.run(t, level, flags...)
					h.restartsUnderLoad(s, 5, name+", "+mode+" at "+level)
					c, err := dial(s.addr, false)
					if err != nil {
						t.Fatal(err)
					}
					defer c.conn.Close()
					if _, err := get(c, "/out"); err != nil {
						t.Errorf("a generation that serves can't connect to itself: %v", err)
					}
				})
			})
		}
	}
}

// TestFaultA3Revived: likewise after a sudden end, and where huptime itself has opened the socket.
func TestFaultA3Revived(t *testing.T) {
	for name := range ownAddresses(t) {
		for _, listens := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", --listen"}[listens], func(t *testing.T) {
				addr := ownAddresses(t)[name]
				s := anybody(t, addr)
				flags := []string{"--revive"}
				if listens {
					flags = append(flags, "--listen="+map[bool]string{true: "unix://" + s.addr, false: "tcp://" + s.addr}[strings.ContainsAny(s.addr[:1], "/@")])
				}
				h := s.run(t, "auto", flags...)
				if !listens {
					h.until("the socket to be kept", func() bool { return h.has("listening socket kept", 1) })
				}
				for i := range 3 {
					mustKill(t, h.newest("generation started").PID, syscall.SIGKILL)
					h.await("generation ready", i+2)
					s.mustAnswer(t)
				}
				if n := h.count("generation started"); n != 4 {
					t.Errorf("%d generations were started", n)
				}
			})
		}
	}
}

// TestFaultA3Hint: what can't be answered for the service is said: it found its predecessor by its pid file, or by its port.
func TestFaultA3Hint(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		pid := filepath.Join(t.TempDir(), "pid")
		for _, more := range [][]string{nil, {pid}} {
			s := anybody(t, strconv.Itoa(freePort(t)), more...)
			h := s.run(t, level)
			failsToRestart(t, h, s, 2, "exited with status 1")
			h.await("the new generation ended before it bound anything; it may have taken its predecessor for another instance of itself", 2)
		}
		s := anybody(t, strconv.Itoa(freePort(t)), pid)
		h := s.run(t, level, "--unlink="+pid)
		restarts(t, h, s, 2)
	})
}
