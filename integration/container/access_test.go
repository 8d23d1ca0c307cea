package container

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// denying is a default profile in which some calls fail with EPERM.
func denying(calls ...string) map[string]any {
	p := defaultProfile()
	names := slices.DeleteFunc(strings.Fields(allowed), func(name string) bool { return slices.Contains(calls, name) })
	p["syscalls"].([]any)[0] = map[string]any{"names": names, "action": "SCMP_ACT_ALLOW"}
	return p
}

// TestNoAccess: huptime may not look into the service at all, as under Yama's ptrace_scope 3, or 2 without CAP_SYS_PTRACE.
func TestNoAccess(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		port := freePort(t)
		b := goService(t, port).restricted()
		b.profile = denying("ptrace", "process_vm_readv", "process_vm_writev")
		c := b.run(r)
		if e := c.await("restarts will fail; --best-effort stops and starts the service instead", 0); !strings.Contains(e.Why, "process_vm_readv") {
			t.Errorf("%+v", e)
		}
		c.await("generation ready", 1)
		l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", port), 0, 2, bothKinds...)
		c.hup()
		e := c.await("restart failed", 2)
		t.Log(e.Reason)
		l.check()
		c.signal(unix.SIGTERM)
		if status := c.exit(); status != 128+15 {
			t.Errorf("exit status %d", status)
		}
	})
}

// TestNoAccessBestEffort: then stopping and starting is the best that can be done.
func TestNoAccessBestEffort(t *testing.T) {
	works(t, "runc")
	port := freePort(t)
	b := scratch(t, "--best-effort", "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port)).restricted()
	b.profile = denying("ptrace", "process_vm_readv", "process_vm_writev")
	restartPlainly(t, b.run("runc"), port)
}

// TestNoPtrace: with ptrace denied the level is connections, and restarts work in exec mode and in fork mode as long as the
// sockets can be copied.
func TestNoPtrace(t *testing.T) {
	works(t, "runc")
	for _, mode := range []string{"--fork", "--exec"} {
		t.Run(mode, func(t *testing.T) {
			port := freePort(t)
			b := scratch(t, mode, "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port)).restricted()
			b.profile = denying("ptrace")
			// Podman's profile has pidfd_getfd.
			rule := b.profile["syscalls"].([]any)[0].(map[string]any)
			rule["names"] = append(rule["names"].([]string), "pidfd_getfd")
			c := b.run("runc")
			if e := c.await("level chosen", 0); e.Track != "connections" {
				t.Errorf("%+v", e)
			}
			s := serves{kinds: bothKinds, vain: true}
			s.restart(t, c, port)
		})
	}
}

// TestUndumpable: a process that lets nobody look into itself (PR_SET_DUMPABLE), before it binds or afterwards. Its socket can't be had, so its
// successor can't have the address: the restart fails in words, the service serves on, and nothing hangs.
func TestUndumpable(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		for _, track := range []string{"listeners", "connections"} {
			t.Run(when+" "+track, func(t *testing.T) {
				eachRuntime(t, func(t *testing.T, r string) {
					port := freePort(t)
					c := scratch(t, "--track="+track, "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port), "-undumpable", when).restricted().run(r)
					c.await("generation ready", 1)
					l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", port), 0, 2, bothKinds...)
					for i := range 3 {
						c.hup()
						c.await("restart failed", i+2)
					}
					l.check()
					c.signal(unix.SIGTERM)
					if status := c.exit(); status != 128+15 {
						t.Errorf("exit status %d", status)
					}
				})
			})
		}
	}
}

// TestWorkersOfAnotherUser: nginx's, while every accept is asked for. As TestRootWithDefaultCapabilities at the other level.
func TestWorkersOfAnotherUser(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		port := freePort(t)
		b := nginxService(t, port)
		b.args = append([]string{b.args[0], "--track=connections"}, b.args[1:]...)
		serves{kinds: []int{1}, vain: true}.restart(t, b.run(r), port)
	})
}
