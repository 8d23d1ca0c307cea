package suite

import (
	"testing"
	"time"
)

// TestDaemonsOfSeveralGenerations: processes that have left parents, session and group, of three generations at once. Each is gated, drained
// and stopped with its own.
func TestDaemonsOfSeveralGenerations(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		s := waits(t, "daemon", 2)
		h := s.run(t, level)
		var kept []*client
		for i, version := range []string{"1", "2", "3"} {
			if i > 0 {
				write(t, s.version, version)
				h.hup()
				h.await("restart finished", i+1)
			}
			kept = append(kept, connect(t, s.addr))
			for j, c := range kept {
				mustSay(t, c, []string{"1", "2", "3"}[j])
			}
		}
		for _, old := range []int{2, 1} { // the younger one first
			kept[old-1].conn.Close()
			h.await("generation drained", old)
			h.await("generation ended", old)
			mustSay(t, kept[2], "3")
			if old == 2 {
				mustSay(t, kept[0], "1")
			}
		}
		if r := s.mustAnswer(t); r.version != "3" {
			t.Errorf("version %s answers at the end", r.version)
		}
		for _, bad := range []string{"generation killed", "old generation not gated wholly"} {
			if n := h.count(bad); n > 0 {
				t.Errorf("%d times %q", n, bad)
			}
		}
	})
}

// TestDaemonThatIsNeverReady: what a failed start has left behind is ended too, and the next restart works.
func TestDaemonThatIsNeverReady(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		s := waits(t, "daemon", 0)
		h := s.run(t, level, "--ready-timeout=500ms")
		old := len(h.processes())
		write(t, s.version, "mute")
		h.hup()
		h.await("restart failed", 2)
		for deadline := time.Now().Add(patience); len(h.processes()) > old; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d processes are left, %d were before", len(h.processes()), old)
			}
		}
		if r := s.mustAnswer(t); r.version != "1" {
			t.Errorf("version %s answers after the failed restart", r.version)
		}
		write(t, s.version, "3")
		h.hup()
		h.await("restart finished", 3)
		h.await("generation ended", 1)
		if r := s.mustAnswer(t); r.version != "3" {
			t.Errorf("version %s answers at the end", r.version)
		}
	})
}
