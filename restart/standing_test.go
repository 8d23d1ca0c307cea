package restart

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/huptime/huptime/sockets"
)

// Every generation may claim what huptime holds for its whole life, however it comes to be started, and nothing closes it.
func TestStanding(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		drive  func(w *world)
		starts int
	}{
		"restart": {nil, func(w *world) {
			w.ready(1)
			w.says("nobody has claimed an address that huptime listens on")
			w.hup()
			w.ready(2)
			w.gated(1, nil)
			w.die(1, killedBy(syscall.SIGTERM))
			w.hup()
		}, 3},
		"failed restart": {nil, func(w *world) {
			w.ready(1)
			w.hup()
			w.gen(2).obstacle = "it binds a, which overlaps b"
			w.die(2, exited(1))
			w.says(`reason="exited with status 1, 0s after its start; it binds a, which overlaps b"`)
			w.hup()
		}, 3},
		"exec": {execMode, func(w *world) {
			w.execGap()
			w.die(2, exited(1))
			w.wait(time.Second)
			w.ready(3)
		}, 3},
		"revive": {func(c *Config) { c.Revive = ReviveAlways }, func(w *world) {
			w.die(1, exited(1))
			w.wait(time.Second)
			w.ready(2)
			w.die(2, exited(1))
			w.wait(time.Second)
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			l.Close()
			e, err := sockets.ParseEndpoint("tcp://" + addr)
			if err != nil {
				t.Fatal(err)
			}
			st, err := sockets.OpenStanding(nil, []sockets.Endpoint{e}, false, true, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			runWith(t, func(c *Config) {
				c.standing = st
				if test.change != nil {
					test.change(c)
				}
			}, func(w *world) {
				test.drive(w)
				w.count(test.starts)
				for i, from := range w.from {
					if list := from.Sockets(); len(list) != 1 || !list[0].Standing() {
						t.Errorf("generation %s may claim %v", strconv.Itoa(i+1), list)
					}
				}
			})
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal("it was closed:", err)
			}
			c.Close()
		})
	}
}
