package suite

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestWithoutPidfdGetfd: the default profiles of Docker and containerd deny pidfd_getfd(2). Sockets are then sent by the service's own
// processes, and nobody notices: not at the moment of a restart either, when the old generation is busiest.
func TestWithoutPidfdGetfd(t *testing.T) {
	const restarts = 20
	services := map[string]func(t *testing.T) service{
		"go":      func(t *testing.T) service { return golang(t) },
		"prefork": func(t *testing.T) service { return python(t, "prefork") },
		"stale":   func(t *testing.T) service { return waits(t, "stale", 2) }, // its epoll sets have to be fetched as well
	}
	for name, make := range services {
		for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
			if name != "go" && errno != unix.EPERM {
				continue // one is enough for what does not depend on it
			}
			t.Run(name+"/"+unix.ErrnoName(errno), func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					s := make(t)
					h := start(t, append([]string{"--track=" + level}, s.command...), denied("pidfd_getfd", errno))
					h.await("generation ready", 1)
					h.restartsUnderLoad(s, restarts, name+" at "+level)
				})
			})
		}
	}
}
