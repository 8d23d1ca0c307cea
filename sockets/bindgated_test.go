package sockets

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

// A generation that is gated and binds its address anew, with or without SO_REUSEPORT, gets a placeholder: no error, and
// no client. On the way back it accepts again by what it has bound then.
func TestBindGated(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		for name, option := range map[string]int{"SO_REUSEADDR": unix.SO_REUSEADDR, "SO_REUSEPORT": unix.SO_REUSEPORT} {
			t.Run(name, func(t *testing.T) {
				var early service
				r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
					// Bound before the gate, listened on after it.
					one := []byte{1, 0, 0, 0}
					g.Must(t, 0, unix.SYS_SETSOCKOPT, s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, one, 4)
					early.fd = g.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
					g.Must(t, 0, unix.SYS_SETSOCKOPT, early.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, one, 4)
					raw := rawAddress(s.addr)
					g.Must(t, 0, unix.SYS_BIND, early.fd, raw, len(raw))
				})
				r.gateAndKeep(t)
				fd := r.old.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
				r.old.Must(t, 0, unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, option, []byte{1, 0, 0, 0}, 4)
				raw := rawAddress(r.addr)
				r.old.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
				r.old.Must(t, 0, unix.SYS_LISTEN, fd, 16)
				r.old.Must(t, 0, unix.SYS_LISTEN, early.fd, 16)
				want := r.old.tracker.gate.placeholderOf(r.preserved.Sockets()[0].Inode).inode
				for _, at := range []int{fd, early.fd} {
					if now := r.old.inode(t, at); now != want {
						t.Errorf("descriptor %d is socket %d, want the placeholder, %d", at, now, want)
					}
				}
				for range 16 { // all come to the new generation
					c := dial(t, r.addr)
					answers(t, r.new.puppet, 0, accepts(t, r.new.puppet, r.at.fd), c)
				}
				r.died(t)
				c := dial(t, r.addr)
				r.ungate(t)
				answers(t, r.old.puppet, 0, accepts(t, r.old.puppet, fd), c)
				r.restored(t, fd, early.fd, r.fd)
			})
		}
	})
}

// accepts accepts a client that has come by a non-blocking socket.
func accepts(t *testing.T, p *puppet, fd int) (accepted int) {
	t.Helper()
	eventually(t, "a client is accepted", func() bool {
		r := p.Call(t, 0, unix.SYS_ACCEPT4, fd, 0, 0, 0)
		accepted = r.Value
		return r.Errno == 0
	})
	return accepted
}
