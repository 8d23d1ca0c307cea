package container

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// restarts is how often each scenario restarts.
const restarts = 20

// serves is a service in a bundle, and where it is asked.
type serves struct {
	name string
	// make makes the bundle of a service that listens on the port.
	make func(t testing.TB, port int) *bundle
	// kinds are what clients do: requests per connection.
	kinds []int
	// vain: epoll sets can't be changed from outside, because the profile denies unshare; a gated process may wake up in vain.
	vain bool
	// root: it can't run as a restricted pod does.
	root bool
}

var bothKinds = []int{1, 25}

func goService(t testing.TB, port int) *bundle {
	return scratch(t, "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port))
}

// pythonService is one that accepts in processes that it has forked.
func pythonService(kind string) func(t testing.TB, port int) *bundle {
	return func(t testing.TB, port int) *bundle {
		b := scratch(t, "--", "/usr/bin/python3", "/server.py", kind, fmt.Sprint(port), "/version").withTree()
		b.write("version", "1")
		b.copy("server.py", "../suite/testdata/server.py")
		return b
	}
}

// nginxService is one whose workers are another user's. Without CAP_SYS_PTRACE huptime may not look into them: they get their stop
// signal as soon as their successors are ready, and must be told to finish what they have (QUIT; TERM makes nginx drop it).
func nginxService(t testing.TB, port int) *bundle {
	b := scratch(t, "--stop-signal=QUIT", "--", "/usr/sbin/nginx", "-c", "/nginx.conf", "-e", "stderr").withTree()
	b.mkdir("work")
	// As Docker's bridge network has it: IPv6 sockets, and not one IPv6 address.
	b.own, b.sysctl = true, map[string]string{"net.ipv6.conf.all.disable_ipv6": "1"}
	template, err := os.ReadFile("../suite/testdata/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer("DIR/error.log", "stderr", "DIR", "/work", "127.0.0.1:PORT", fmt.Sprintf("[::]:%d ipv6only=off", port)).Replace(string(template))
	b.write("nginx.conf", "user www-data;\n"+conf)
	return b
}

// TestRootWithDefaultCapabilities: huptime as PID 1, as Docker and containerd run it unless told otherwise.
func TestRootWithDefaultCapabilities(t *testing.T) {
	for _, s := range []serves{
		{name: "go", make: goService, kinds: bothKinds},
		// Clients that keep connections to nginx lose them when it is told to quit, with huptime or without.
		{name: "nginx", make: nginxService, kinds: []int{1}},
	} {
		t.Run(s.name, func(t *testing.T) {
			eachRuntime(t, func(t *testing.T, r string) {
				port := freePort(t)
				s.restart(t, s.make(t, port).run(r), port)
			})
		})
	}
}

// TestRestrictedPod: a user without capabilities, no_new_privs, and nothing to write to.
func TestRestrictedPod(t *testing.T) {
	for _, s := range []serves{
		{name: "go", make: goService, kinds: bothKinds},
		{name: "python prefork", make: pythonService("prefork"), kinds: bothKinds},
		{name: "python threads", make: pythonService("threadpool"), kinds: bothKinds},
	} {
		t.Run(s.name, func(t *testing.T) {
			eachRuntime(t, func(t *testing.T, r string) {
				port := freePort(t)
				s.restart(t, s.make(t, port).restricted().run(r), port)
			})
		})
	}
}

// staged adds --stage to the arguments of a bundle.
func (b *bundle) staged() *bundle {
	b.args = append([]string{b.args[0], "--stage"}, b.args[1:]...)
	return b
}

// TestStaged: as root with Docker's capabilities and as a restricted pod. With sockets of its own for each version nobody need be looked into: nginx's
// workers, which are another user's, finish what their clients have, kept connections too.
func TestStaged(t *testing.T) {
	for _, s := range []serves{
		{name: "go", make: goService, kinds: bothKinds},
		{name: "nginx", make: nginxService, kinds: bothKinds, root: true},
		{name: "python prefork", make: pythonService("prefork"), kinds: bothKinds},
	} {
		t.Run(s.name, func(t *testing.T) {
			eachRuntime(t, func(t *testing.T, r string) {
				port := freePort(t)
				t.Run("root", func(t *testing.T) { s.restart(t, s.make(t, port).staged().run(r), port) })
				if !s.root {
					port := freePort(t)
					t.Run("restricted", func(t *testing.T) { s.restart(t, s.make(t, port).restricted().staged().run(r), port) })
				}
			})
		})
	}
}

// restart runs the service, and restarts it under load by `kill -HUP 1` from inside.
func (s serves) restart(t *testing.T, c *container, port int) {
	t.Helper()
	c.await("generation ready", 1)
	netns := 0
	if c.b.own {
		netns = c.pid()
	}
	l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", port), netns, 2, s.kinds...)
	for i := range restarts {
		c.hup()
		c.await("restart finished", i+2)
		c.await("generation ended", i+1)
	}
	l.check()
	for _, bad := range []string{"restart failed", "old generation not gated wholly", "cannot gate what came up during the drain", "generation killed"} {
		if n := c.logged(bad); n > 0 && !s.vain {
			t.Errorf("%d times %q", n, bad)
		}
	}
	c.signal(15)
	if status := c.exit(); status != 128+15 && status != 0 {
		t.Errorf("exit status %d", status)
	}
}
