package suite

import (
	"testing"
	"time"
)

// TestOriginal is the suite of the original huptime: six ways to serve, three restarts each. Old clients stay connected and finish
// on the version that they began with; new clients see only the new version.
func TestOriginal(t *testing.T) {
	kinds := map[string]int{ // how many old clients the kind can serve at a time
		"serial": 1, "select": 10, "thread": 10, "process": 10, "threadpool": 10, "processpool": 10,
	}
	for kind, olds := range kinds {
		t.Run(kind, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := python(t, kind)
				h := s.run(t, level)
				for i := range 3 {
					original(t, h, s, olds, i+1)
				}
			})
		})
	}
}

func original(t *testing.T, h *supervisor, s service, olds, generation int) {
	t.Helper()
	version := string(rune('0' + generation))
	var old []*client
	for range olds {
		c := connect(t, s.addr)
		mustSay(t, c, version)
		old = append(old, c)
	}
	write(t, s.version, string(rune('0'+generation+1)))
	h.hup()
	h.await("restart finished", generation+1)
	for range 10 {
		c := connect(t, s.addr)
		mustSay(t, c, string(rune('0'+generation+1)))
		c.conn.Close()
	}
	for _, c := range old {
		mustSay(t, c, version)
		c.conn.Close()
	}
	h.await("generation ended", generation)
}

// connect opens a connection that is kept.
func connect(t *testing.T, addr string) *client {
	t.Helper()
	c, err := dial(addr, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// mustSay makes a request and checks the version that answers.
func mustSay(t *testing.T, c *client, version string) reply {
	t.Helper()
	c.conn.SetDeadline(time.Now().Add(patience))
	r, err := get(c, "/")
	if err != nil {
		t.Fatal(err)
	}
	if r.version != version {
		t.Fatalf("version %s answers, want %s", r.version, version)
	}
	return r
}
