package suite

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
)

// rendezvous is a port of every address of this machine that takes connections and keeps them. It is closed with the
// test.
func rendezvous(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, c); c.Close() }() // ends with the service
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestFaultA5PlantAtTheRightMoment: a bind from which the program connects does not get the listening socket, and what
// is bound under another name and renamed onto the path does, though it listens only then.
func TestFaultA5PlantAtTheRightMoment(t *testing.T) {
	late := func(addr string, arg ...string) func(t *testing.T) service {
		return func(t *testing.T) service {
			return service{name: arg[0], addr: addr, ask: askHTTP,
				command: append([]string{program(t, "/usr/bin/python3", "python3"), "testdata/late_plant.py"}, arg...)}
		}
	}
	dials := func(how, order string) func(t *testing.T) service {
		return func(t *testing.T) service {
			port := strconv.Itoa(unusedPort(t))
			return late("127.0.0.1:"+port, how, port, fmt.Sprintf("%s:%d", order, rendezvous(t)))(t)
		}
	}
	renamed := func(name string) func(t *testing.T) service {
		return func(t *testing.T) service { path := shortDir(t) + "/s"; return late(path, "renamed", path, name)(t) }
	}
	for name, make := range map[string]func(t *testing.T) service{
		"reuseport dial first":   dials("reuseport", "dial"),
		"reuseport listen first": dials("reuseport", "listen"),
		"reuseaddr dial first":   dials("reuseaddr", "dial"),
		"renamed":                renamed(".tmp"),
		"renamed from any name":  renamed("*"),
	} {
		for _, mode := range []string{"--fork", "--exec"} {
			t.Run(name+" "+mode[2:], func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					s := make(t)
					h := s.run(t, level, mode, "--ready-timeout=10s", "--start-retries=2")
					h.restartsUnderLoad(s, 3, name+" at "+level, "nobody listens on an address any more; it is closed")
				})
			})
		}
	}
}

// unusedPort is a port that nobody has, not even the test: whoever had it would be in the way of a service that shares
// it with itself alone.
func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
