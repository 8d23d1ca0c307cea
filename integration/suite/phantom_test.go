package suite

import (
	"slices"
	"testing"
)

// TestNoPhantoms: a server that does nothing but accept is given no connection that nobody has made, where it is staged. Planted, at the level
// listeners, it is given none as far as it was seen often enough before its successor came; at connections that can't be seen.
func TestNoPhantoms(t *testing.T) {
	for _, flags := range [][]string{{"--fork"}, {"--stage"}} {
		eachLevel(t, func(t *testing.T, level string) {
			if flags[0] != "--stage" && level != "listeners" {
				return
			}
			t.Run(flags[0], func(t *testing.T) {
				t.Parallel()
				s := script(t, "naive.py", freePort(t))
				h := s.run(t, level, flags...)
				h.restartsUnder(startClients(t, s.addr, s.ask, 1, 1), 5, func(int) {}, "a naive server "+flags[0]+" at "+level)
				h.mu.Lock()
				defer h.mu.Unlock()
				switch given := slices.Contains(h.output, "nothing asked"); {
				case given && flags[0] == "--stage":
					t.Error("it was given a connection that nobody has made")
				case given:
					t.Log("it was given a connection that nobody has made: it was not seen often enough")
				}
			})
		})
	}
}
