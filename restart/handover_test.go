package restart

import (
	"errors"
	"syscall"
	"testing"
)

func (w *world) handsOver(n int, want bool) {
	w.t.Helper()
	if got := w.gen(n).handsOver; got != want {
		w.t.Errorf("generation %d hands over its paths: %v, want %v", n, got, want)
	}
}

// Whose the files are: see "Files that one generation leaves to the next" in the package's comment.
func TestHandOver(t *testing.T) {
	run(t, func(w *world) {
		w.ready(1)
		w.handsOver(1, false)
		w.hup()
		w.count(2)
		w.handsOver(1, true) // from the launch on
		w.handsOver(2, false)
		w.fail(2, errors.New("bad"))
		w.handsOver(1, true) // the failed one may be about to remove its files
		w.die(2, exited(1))
		w.handsOver(1, false) // it is the current one still

		w.launches = []error{errors.New("no launcher")}
		w.hup()
		w.handsOver(1, false)

		w.hup()
		w.ready(4)
		w.gated(1, nil)
		w.handsOver(1, true)
		w.handsOver(4, false)
		w.hup()
		w.handsOver(4, true)
		w.end(syscall.SIGTERM) // the new one is killed, and nobody needs the files any more
		w.handsOver(4, false)
		w.handsOver(1, true) // of these two the later one removes them
		w.die(1, exited(0))
		w.die(5, killedBy(syscall.SIGKILL))
		w.die(4, exited(0))
		w.exits(0)
	})
}
