package suite

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// computing is a service whose generations have a worker without any connection. It computes until something is written to the FIFO, and says so.
func computing(t *testing.T) (s service, fifo string) {
	s = python(t, "thread")
	fifo = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s.command = append([]string{"/bin/sh", "-c", `f=$1; shift; (trap "" TERM; read -r x <"$f"; echo computed) & exec "$@"`, "sh", fifo}, s.command...)
	return s, fifo
}

// release lets two workers finish, whosever they are. It opens the FIFO for both, so that it never waits for a reader.
func release(t *testing.T, fifo string) {
	t.Helper()
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // what is written is gone with the last that has it open
	if _, err := f.WriteString("go on\ngo on\n"); err != nil {
		t.Fatal(err)
	}
}

// TestWait: with --wait a worker that computes without any connection is not cut when its generation is retired.
func TestWait(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		for _, mode := range []string{"--fork", "--exec"} {
			t.Run(mode[2:], func(t *testing.T) {
				t.Parallel()
				s, fifo := computing(t)
				h := s.run(t, level, mode, "--wait")
				t.Cleanup(func() { release(t, fifo) }) // for generation 2
				h.hup()
				h.await("leader ended", 1)
				if mode == "--fork" {
					h.await("restart finished", 2)
				}
				release(t, fifo)
				h.awaitOutput("computed")
				if e := h.await("generation ended", 1); e.Status != "killed by SIGTERM" {
					t.Errorf("%+v", e)
				}
				h.await("restart finished", 2)
				s.mustAnswer(t)
			})
		}
		t.Run("without it", func(t *testing.T) {
			t.Parallel()
			s, _ := computing(t)
			h := s.run(t, level, "--kill-after="+(100*time.Millisecond).String())
			h.hup()
			h.await("generation killed", 1)
			h.await("generation ended", 1)
		})
	})
}
