package sockets

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

// A connection of the supervisor's own that the service has accepted and does not close is not waited for; that of a
// client that has closed its half, and may wait for an answer, is.
func TestVisitsDoNotCount(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restart(t, level, 0, 0, nil)
		read := func(fd int) { // it finds the end, and does not close
			if n := r.old.Must(t, 0, unix.SYS_READ, fd, make([]byte, 8), 8); n != 0 {
				t.Errorf("%d bytes", n)
			}
		}
		q, ok := queueOf(r.preserved.Sockets()[0])
		if !ok {
			t.Fatal("the supervisor has no duplicate")
		}
		defer q.close()
		q.connect()
		visitor := r.old.Must(t, 0, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
		read(visitor)
		half := dial(t, r.addr)
		accepted := r.old.Must(t, 0, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
		if err := half.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		read(accepted)
		r.gateAndKeep(t)
		outstanding := func() int {
			n, err := r.old.tracker.Outstanding(func() []int { return group(r.new.PID) })
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := outstanding(); n != 1 {
			t.Errorf("%d connections, want the client's alone", n)
		}
		r.old.Must(t, 0, unix.SYS_CLOSE, accepted)
		if n := outstanding(); n != 0 {
			t.Errorf("%d connections, want none", n)
		}
	})
}
