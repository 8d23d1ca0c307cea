package sockets

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

// A connection may end without close(2).
func TestDrainWithoutClose(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, nil)
		_, conn := serves(t, r.old.puppet, r.service)
		r.gate(t)
		r.outstanding(t, 1)
		stopped := make(chan struct{})
		drained := make(chan error, 1)
		go func() { // ends with AwaitDrained, which the test waits for
			drained <- r.old.tracker.AwaitDrained(t.Context(), r.preserved.Claimed, func() []int { return group(r.new.PID) },
				func() { close(stopped) })
		}()
		r.old.Must(t, 0, unix.SYS_DUP3, r.fd, conn, 0)
		select {
		case err := <-drained:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("not drained")
		}
		<-stopped
	})
}
