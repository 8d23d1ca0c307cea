package suite

import (
	"strconv"
	"strings"
	"testing"
)

// order is a service that comes to its listening socket in an unusual order.
func order(t *testing.T, kind string) service {
	t.Helper()
	port := freePort(t)
	return service{
		name:    kind,
		command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/order.py", kind, strconv.Itoa(port)},
		addr:    "127.0.0.1:" + strconv.Itoa(port),
		ask:     askHTTP,
	}
}

// TestOrder: what else a service has of its socket when it binds it follows, and nothing is noticed.
func TestOrder(t *testing.T) {
	const restarts = 8
	for _, kind := range []string{"dup", "epoll", "late", "twice", "child"} {
		t.Run(kind, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := order(t, kind)
				h := s.run(t, level)
				h.restartsUnderLoad(s, restarts, kind+" at "+level)
				h.mu.Lock()
				defer h.mu.Unlock()
				for _, line := range h.output {
					if !strings.Contains(line, "level=") {
						t.Errorf("the service has noticed: %s", line)
					}
				}
			})
		})
	}
}
