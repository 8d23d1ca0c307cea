package suite

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
)

// TestFaultC1FirstThread: the stop signal is taken by the first thread, as it is where no process is frozen. A server
// whose other threads have not blocked it, and whose first one waits for it, ends by itself.
func TestFaultC1FirstThread(t *testing.T) {
	for _, how := range []string{"pause", "sandbox", "sigwait", "sigsuspend"} {
		t.Run(how, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				port := freePort(t)
				addr := fmt.Sprintf("127.0.0.1:%d", port)
				h := start(t, []string{"--track=" + level, compiled(t, "firstthread"), how, strconv.Itoa(port)})
				h.await("generation ready", 1)
				for i := range 10 {
					mustAsk(t, addr)
					h.hup()
					h.await("restart finished", i+2)
					if e := h.await("generation ended", i+1); e.Status != "exited with status 0" {
						t.Errorf("generation %d %s", i+1, e.Status)
					}
				}
				if n := h.said("another thread"); n > 0 {
					t.Errorf("%d of 10 stop signals were taken by another thread", n)
				}
				h.signal(syscall.SIGTERM)
				if status := h.exit(); status != 0 {
					t.Errorf("exit status %d, want 0", status)
				}
			})
		})
	}
}
