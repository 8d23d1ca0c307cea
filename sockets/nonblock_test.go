package sockets

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

// The old generation keeps its O_NONBLOCK until it is gated, gets it back where it serves again, and keeps it where the
// new one fails.
func TestFaultA1NonBlocking(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		for _, flags := range []int{0, unix.SOCK_NONBLOCK} {
			for _, fails := range []bool{false, true} {
				knocks := NewKnocks()
				r := &restarted{old: launch(t, 1, level, nil, knocks, 0)}
				r.service = r.old.listenAlone(t, loopback, flags)
				nonblock := func(g *generation, fd int) bool {
					return g.Must(t, 0, unix.SYS_FCNTL, fd, unix.F_GETFL, 0)&unix.O_NONBLOCK != 0
				}
				r.preserved = collect(t, r.old)
				r.new = launch(t, 2, level, r.preserved, knocks, 0)
				wants := unix.SOCK_NONBLOCK &^ flags
				r.at = r.new.listenAlone(t, r.addr, wants)
				if nonblock(r.old, r.fd) != (flags != 0) {
					t.Errorf("the old generation has not its own flag (%#x)", flags)
				}
				if flags == 0 && level != notify.LevelListeners {
					if got := r.new.Call(t, 0, unix.SYS_ACCEPT4, r.at.fd, 0, 0, 0); got.Errno != unix.EAGAIN {
						t.Errorf("accept of a non-blocking program: %+v", got)
					}
				}
				if fails {
					r.died(t)
					r.preserved.Close()
				} else {
					r.gateAndKeep(t)
					if nonblock(r.new, r.at.fd) != (wants != 0) {
						t.Errorf("the new generation has not the flag that it wants (%#x)", wants)
					}
					c, _ := serves(t, r.new.puppet, r.at)
					_ = c.Close()
					r.died(t)
					r.ungate(t)
				}
				if nonblock(r.old, r.fd) != (flags != 0) {
					t.Errorf("the old generation has not got its flag back (%#x)", flags)
				}
				serves(t, r.old.puppet, r.service)
			}
		}
	})
}
