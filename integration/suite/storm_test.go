package suite

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// TestStorm: 200 SIGHUPs in two seconds, each after a new version was put in place. No request fails, never more than three generations live, and
// the last version is what runs in the end.
func TestStorm(t *testing.T) {
	const hups, pace = 200, 10 * time.Millisecond
	for _, mode := range []string{"--fork", "--exec"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := golang(t)
				h := s.run(t, level, mode)
				l := startLoad(t, s.addr, s.ask, clients)
				l.awaitNewPID(0)
				tick := time.NewTicker(pace)
				defer tick.Stop()
				most := 0
				for i := range hups {
					<-tick.C
					write(t, s.version, strconv.Itoa(i+2))
					h.hup()
					most = max(most, h.alive())
				}
				for limit := time.Now().Add(patience); s.mustAnswer(t).version != strconv.Itoa(hups+1); {
					if time.Now().After(limit) {
						t.Fatal("the last version does not come")
					}
					most = max(most, h.alive())
				}
				h.until("one generation to be left", func() bool {
					n := 0
					for _, e := range h.events {
						switch e.Msg {
						case "generation started":
							n++
						case "generation ended":
							n--
						}
					}
					return n == 1
				})
				if limit := map[string]int{"--fork": 3, "--exec": 1}[mode]; most > limit {
					t.Errorf("%d generations lived at once, want at most %d", most, limit)
				}
				t.Logf("%d restarts by %d SIGHUPs", h.count("restart begun"), hups)
				l.check(fmt.Sprint("storm ", mode, " at ", level))
			})
		})
	}
}

// TestMaxGenerations: where as many generations drain as may live, a restart waits for one of them.
func TestMaxGenerations(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level, "--max-generations=2")
		held := connect(t, s.addr)
		mustSay(t, held, "1")
		write(t, s.version, "2")
		h.hup()
		h.await("restart finished", 2)
		write(t, s.version, "3")
		h.hup()
		h.await("restart wanted; it waits", 0)
		if r := s.mustAnswer(t); r.version != "2" {
			t.Errorf("version %s answers while the restart waits", r.version)
		}
		mustSay(t, held, "1")
		held.conn.Close()
		h.await("restart finished", 3)
		if r := s.mustAnswer(t); r.version != "3" {
			t.Errorf("version %s answers after the restart", r.version)
		}
	})
}

// TestHangupPassed: with --hup=pass the service handles SIGHUP itself, and huptime restarts it all the same.
func TestHangupPassed(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t, "-report-hup")
		h := s.run(t, level, "--hup=pass")
		h.hup()
		h.awaitOutput("heard SIGHUP")
		h.await("restart finished", 2)
		s.mustAnswer(t)
	})
}
