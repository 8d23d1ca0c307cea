package container

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/signals"
)

// TestOrphans: PID 1 reaps whatever is left to it, and comes to nothing more by it.
func TestOrphans(t *testing.T) {
	const orphans = 10_000
	eachRuntime(t, func(t *testing.T, r string) {
		// Each of them leaves its child at once.
		script := fmt.Sprintf("echo before $(/inside status); i=0; while [ $i -lt %d ]; do (: &); i=$((i+1)); done; exec /inside count", orphans)
		c := scratch(t, "--", "/bin/sh", "-c", script).withTree().run(r)
		var zombies, before, after int
		fmt.Sscanf(c.awaitOutput("before"), "before %d", &before)
		line := c.awaitOutput("zombies")
		if _, err := fmt.Sscanf(line, "zombies %d rss %d", &zombies, &after); err != nil || before == 0 {
			t.Fatalf("%q: %v", line, err)
		}
		t.Logf("%d orphans: %d zombies, resident memory %d KiB before, %d after", orphans, zombies, before, after)
		// A Go program's memory goes up and down by a few MiB. One that kept 200 bytes for each would be found out here.
		const slack = 8 << 10
		if zombies != 0 || after > before+slack {
			t.Error("zombies are left, or PID 1 has grown")
		}
		c.signal(unix.SIGTERM)
		if status := c.exit(); status != 128+15 {
			t.Errorf("exit status %d", status)
		}
	})
}

// asPID1 is huptime as PID 1 of a PID namespace, without all else that makes a container.
func asPID1(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("unsupported here: a PID namespace takes root")
	}
	return exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child", "--mount-proc", huptime}, args...)...)
}

// TestExitStatus: huptime's is the service's.
func TestExitStatus(t *testing.T) {
	for n := range 256 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			cmd := asPID1(t, "--", inside, "exit", fmt.Sprint(n))
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != n {
				t.Errorf("exit status %d, %v: %s", code, err, out)
			}
		})
	}
}

// TestKilledStatus: 128+n for every signal that ends a process by default.
func TestKilledStatus(t *testing.T) {
	harmless := map[unix.Signal]bool{unix.SIGHUP: true, unix.SIGCHLD: true, unix.SIGCONT: true, unix.SIGSTOP: true, unix.SIGTSTP: true,
		unix.SIGTTIN: true, unix.SIGTTOU: true, unix.SIGURG: true, unix.SIGWINCH: true}
	for n := unix.Signal(1); n <= 64; n++ {
		if harmless[n] || n == 32 || n == 33 { // those two are the C library's own
			continue
		}
		t.Run(fmt.Sprint(int(n)), func(t *testing.T) {
			t.Parallel()
			cmd := asPID1(t, "--", "sh", "-c", fmt.Sprintf("ulimit -c 0; kill -%d $$; exit 77", n))
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 128+int(n) {
				t.Errorf("exit status %d, %v: %s", code, err, out)
			}
		})
	}
}

// TestContainerStatus: the same seen from outside, by an engine.
func TestContainerStatus(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		for command, want := range map[string]int{"exit 0": 0, "exit 1": 1, "exit 255": 255, "die 9": 137, "die 15": 143} {
			c := scratch(t, append([]string{"--", "/inside"}, strings.Fields(command)...)...).run(r)
			if status := c.exit(); status != want {
				t.Errorf("%s: exit status %d", command, status)
			}
		}
	})
}

// TestForwardedSignals: what an engine sends to PID 1 gets to the service.
func TestForwardedSignals(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		c := scratch(t, "--", "/inside", "signals").run(r)
		c.awaitOutput("listens true")
		for _, sig := range signals.Forwarded() {
			if sig != unix.SIGTERM {
				if sig == unix.SIGINT { // ends huptime too: see TestTerminal
					continue
				}
				c.signal(sig.(syscall.Signal))
				c.awaitOutput(fmt.Sprintf("signal %d", sig))
			}
		}
		c.signal(unix.SIGTERM)
		if status := c.exit(); status != 42 {
			t.Errorf("exit status %d", status)
		}
	})
}

// TestTermEndsAll: also a generation that drains, at once; and one that does not care for TERM, by the second.
func TestTermEndsAll(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		port := freePort(t)
		c := goService(t, port).run(r)
		c.await("generation ready", 1)
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c.awaitConnection(port)
		c.hup()
		if e := c.await("generation gated", 1); e.Connections != 1 {
			t.Errorf("%d connections", e.Connections)
		}
		c.signal(unix.SIGTERM)
		if status := c.exit(); status != 128+15 {
			t.Errorf("exit status %d", status)
		}
		if e := c.await("stop signal sent", 1); e.Why != "huptime is ending" {
			t.Errorf("%+v", e)
		}
		c.await("generation ended", 1)
		c.await("generation ended", 2)

		c = scratch(t, "--kill-after=100ms", "--", "/inside", "stubborn", "3").run(r)
		c.awaitOutput("stubborn 0")
		c.signal(unix.SIGTERM)
		c.awaitOutput("heard TERM 3")
		time.Sleep(1100 * time.Millisecond) // one that comes within a second is part of the first
		c.signal(unix.SIGTERM)
		if status := c.exit(); status != 128+9 {
			t.Errorf("stubborn: exit status %d", status)
		}
	})
}

// awaitConnection waits until the service has accepted a connection: an answer over another one that came after it.
func (c *container) awaitConnection(port int) {
	c.t.Helper()
	l := startLoad(c.t, fmt.Sprintf("127.0.0.1:%d", port), 0, 0)
	l.connection(1)
	if len(l.failures) > 0 {
		c.t.Fatal(l.failures)
	}
}

// TestStrayHangup: a SIGHUP while generation 1 starts ends nothing, and restarts nothing before it is ready.
func TestStrayHangup(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		port := freePort(t)
		b := scratch(t, "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port), "-config", "/config")
		b.write("config", "delay=700ms")
		c := b.run(r)
		c.await("generation started", 1)
		for range 5 {
			c.hup()
		}
		c.await("generation ready", 1)
		c.await("restart finished", 2)
		c.mu.Lock()
		defer c.mu.Unlock()
		ready := false
		for _, e := range c.events {
			ready = ready || e.Msg == "generation ready"
			if !ready && (e.Msg == "restart begun" || e.Msg == "generation ended") || e.Msg == "restart begun" && e.Generation > 2 {
				t.Errorf("%+v", e)
			}
		}
	})
	// From the first moment on: PID 1 can't be killed by it, whatever it has come to.
	t.Run("at once", func(t *testing.T) {
		cmd := asPID1(t, "--", inside, "exit", "7")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			cmd.Wait()
		}()
		for {
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
			var pid int
			if n, _ := fmt.Sscan(string(children), &pid); n == 1 {
				syscall.Kill(pid, syscall.SIGHUP)
			}
			select {
			case <-over:
				if code := cmd.ProcessState.ExitCode(); code != 7 {
					t.Errorf("exit status %d", code)
				}
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
}
