package container

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// refusals are the ways in which containers have no user notification, as seccomp(2) fails there.
var refusals = map[string]unix.Errno{"EPERM": unix.EPERM, "EINVAL": unix.EINVAL, "ENOSYS": unix.ENOSYS, "EACCES": unix.EACCES}

// TestWithoutNotification: by default one clear line, and nothing is started.
func TestWithoutNotification(t *testing.T) {
	works(t, "runc")
	for name, errno := range refusals {
		t.Run(name, func(t *testing.T) {
			b := scratch(t, "--", "/inside", "exit", "0")
			b.profile = withoutSeccomp(int(errno))
			c := b.run("runc")
			if status := c.exit(); status != 125 {
				t.Errorf("exit status %d", status)
			}
			line := c.awaitOutput("huptime: ")
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.output) != 1 || !strings.Contains(line, "seccomp") || !strings.Contains(line, "--best-effort") {
				t.Errorf("%q", c.output)
			}
		})
	}
	t.Run("a listener is there already", func(t *testing.T) {
		b := scratch(t, "--", "/huptime", "--log-format=json", "--", "/inside", "exit", "0")
		c := b.run("runc")
		if status := c.exit(); status != 125 {
			t.Errorf("exit status %d", status)
		}
		if line := c.awaitOutput("huptime: "); !strings.Contains(line, "already have a seccomp listener") {
			t.Errorf("%q", line)
		}
	})
}

// TestBestEffort: there the service runs all the same, and a SIGHUP stops it and starts it.
func TestBestEffort(t *testing.T) {
	works(t, "runc")
	inner := []string{"--best-effort", "--", "/goserver", "-addr"}
	for name, errno := range refusals {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			b := scratch(t, append(inner, fmt.Sprintf("127.0.0.1:%d", port))...)
			b.profile = withoutSeccomp(int(errno))
			restartPlainly(t, b.run("runc"), port)
		})
	}
	t.Run("a listener is there already", func(t *testing.T) {
		port := freePort(t)
		args := append([]string{"--", "/huptime", "--log-format=json"}, inner...)
		c := scratch(t, append(args, fmt.Sprintf("127.0.0.1:%d", port))...).run("runc")
		if e := c.await(plainly, 0); !strings.Contains(e.Why, "already have a seccomp listener") {
			t.Errorf("%+v", e)
		}
		c.awaitOutput("listening")
		c.awaitConnection(port)
		c.signal(unix.SIGTERM)
		if status := c.exit(); status != 128+15 {
			t.Errorf("exit status %d", status)
		}
	})
	t.Run("nothing is missing", func(t *testing.T) {
		port := freePort(t)
		c := scratch(t, append(inner, fmt.Sprintf("127.0.0.1:%d", port))...).run("runc")
		c.await("generation ready", 1)
		l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", port), 0, 2, bothKinds...)
		c.hup()
		c.await("restart finished", 2)
		c.await("generation ended", 1)
		l.check()
	})
}

const plainly = "the service runs without huptime's help: SIGHUP stops it and starts it again, and clients are refused meanwhile"

func restartPlainly(t *testing.T, c *container, port int) {
	t.Helper()
	if e := c.await(plainly, 0); e.Why == "" {
		t.Error("it does not say why")
	}
	c.await("generation ready", 1)
	for i := range 3 {
		c.awaitConnection(port)
		c.hup()
		if e := c.await("stop signal sent", i+1); !strings.Contains(e.Why, "plain restart") {
			t.Errorf("%+v", e)
		}
		c.await("generation ended", i+1)
		c.await("generation ready", i+2)
		c.await("restart finished", i+2)
	}
	c.awaitConnection(port)
	c.signal(unix.SIGTERM)
	if status := c.exit(); status != 128+15 {
		t.Errorf("exit status %d", status)
	}
}
