package suite

import (
	"os/exec"
	"strings"
	"testing"
)

// TestFaultB3OtherNetwork: each generation makes a network namespace for itself. Clients find its unix socket by the
// path, at every moment.
func TestFaultB3OtherNetwork(t *testing.T) {
	apart := []string{"unshare", "-r", "-n"}
	if out, err := exec.Command(apart[0], append(apart[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no network namespace of one's own: %v, %s", err, out)
	}
	for _, mode := range []string{"--fork", "--exec"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				path := shortDir(t) + "/s"
				s := unixPython(t, path, path)
				s.command = append(apart, s.command...)
				h := s.run(t, level, mode)
				h.restartsUnderLoad(s, 4, "another network namespace at "+level)
			})
		})
	}
	t.Run("port", func(t *testing.T) {
		s := golang(t)
		h := start(t, append([]string{"--track=listeners", "--", "unshare", "-r", "-n", "sh", "-c", `ip link set lo up; exec "$0" "$@"`}, s.command...))
		h.await("generation ready", 1)
		h.hup()
		if e := h.await("a socket is not preserved", 1); !strings.Contains(e.Why, "network namespace") {
			t.Errorf("the log says: %+v", e)
		}
	})
}
