package suite

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestFaultD4OwnerWaitsForNobody: sixteen orphans that can't be stopped, let alone be made to knock, hold up neither restarts nor huptime's end.
func TestFaultD4OwnerWaitsForNobody(t *testing.T) {
	const killAfter = time.Second
	for name, where := range map[string]func(t *testing.T) option{
		"terminal": onTerminal,
		"none":     func(*testing.T) option { return inOwnSession },
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				port := freePort(t)
				addr := fmt.Sprintf("127.0.0.1:%d", port)
				h := start(t, []string{"--track=" + level, "--kill-after=" + killAfter.String(), compiled(t, "vforked"), strconv.Itoa(port), t.TempDir(), "16"},
					where(t))
				h.await("generation ready", 1)
				held := connect(t, addr) // so that two generations are alive, whose the orphans could be
				if _, err := line(held); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				h.hup()
				h.await("restart finished", 2)
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("the restart took %s", took)
				}
				if got, want := mustAsk(t, addr), fmt.Sprintf("leader %d", h.await("generation started", 2).PID); got != want {
					t.Errorf("%q answers, want %q", got, want)
				}
				began = time.Now()
				h.signal(syscall.SIGTERM)
				h.exit()
				if took := time.Since(began); took > killAfter+8*time.Second {
					t.Errorf("huptime's end took %s", took)
				} else {
					t.Logf("huptime's end took %s", took)
				}
			})
		})
	}
}
