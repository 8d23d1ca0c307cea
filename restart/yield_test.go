package restart

import (
	"errors"
	"syscall"
	"testing"
)

func (w *world) yields(n int, want bool) {
	w.t.Helper()
	if got := w.gen(n).yields; got != want {
		w.t.Errorf("generation %d yields its paths: %v, want %v", n, got, want)
	}
}

// Whose the files are: see "Files that one generation leaves to the next" in the package's comment.
func TestYield(t *testing.T) {
	run(t, func(w *world) {
		w.ready(1)
		w.yields(1, false)
		w.hup()
		w.count(2)
		w.yields(1, true) // from the launch on
		w.yields(2, false)
		w.fail(2, errors.New("bad"))
		w.yields(1, true) // the failed one may be about to remove its files
		w.die(2, exited(1))
		w.yields(1, false) // it is the current one still

		w.launches = []error{errors.New("no launcher")}
		w.hup()
		w.yields(1, false)

		w.hup()
		w.ready(4)
		w.gated(1, nil)
		w.yields(1, true)
		w.yields(4, false)
		w.hup()
		w.yields(4, true)
		w.end(syscall.SIGTERM) // the new one is killed, and nobody needs the files any more
		w.yields(4, false)
		w.yields(1, true) // of these two the later one removes them
		w.die(1, exited(0))
		w.die(5, killedBy(syscall.SIGKILL))
		w.die(4, exited(0))
		w.exits(0)
	})
}
