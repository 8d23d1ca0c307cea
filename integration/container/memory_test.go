package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutOfMemory: a new generation that does not fit beside the old one is killed by the kernel. The old one serves on, and the log says
// what has happened.
func TestOutOfMemory(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		port := freePort(t)
		b := scratch(t, "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port), "-config", "/config")
		b.write("config", "")
		b.memory = 150 << 20
		c := b.run(r)
		c.await("generation ready", 1)
		if !limited(c.pid(), b.memory) {
			t.Skip("unsupported here: " + r + " sets no memory limit: there is no memory controller that it could use")
		}
		b.write("config", "eat=400")
		// No load meanwhile: while the victim's memory is on its way back, the kernel kills whoever asks for some.
		for i := range 3 {
			c.hup()
			e := c.await("restart failed", i+2)
			if want := "killed by SIGKILL; the out-of-memory killer has struck in this memory cgroup"; !strings.HasPrefix(e.Reason, want) {
				t.Errorf("%q", e.Reason)
			}
			c.awaitConnection(port)
		}
		b.write("config", "eat=1")
		l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", port), 0, 2, bothKinds...)
		c.hup()
		c.await("restart finished", 5)
		c.await("generation ended", 1)
		l.check()
		c.signal(15)
		c.exit()
	})
}

// TestOldOneIsSpared: also where the old generation is the larger one by far, which is what the kernel would take.
func TestOldOneIsSpared(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		port := freePort(t)
		b := scratch(t, "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port), "-config", "/config").restricted()
		b.write("config", "eat=90")
		b.memory = 150 << 20
		c := b.run(r)
		c.await("generation ready", 1)
		if !limited(c.pid(), b.memory) {
			t.Skip("unsupported here: " + r + " sets no memory limit: there is no memory controller that it could use")
		}
		b.write("config", "eat=70")
		for i := range 3 {
			c.hup()
			c.await("restart failed", i+2)
			c.awaitConnection(port)
		}
		b.write("config", "eat=1")
		c.hup()
		c.await("restart finished", 5)
		c.await("generation ended", 1)
		// The new one is not the first to go any more.
		pid := strings.TrimSpace(c.exec("/inside", "score", fmt.Sprint(c.await("generation started", 5).PID)))
		if pid != "0" {
			t.Errorf("oom_score_adj of generation 5: %s", pid)
		}
		c.signal(15)
		c.exit()
	})
}

// limited tells whether a process is in a memory cgroup with this limit.
func limited(pid int, limit int64) bool {
	cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(cgroup)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, file := range []string{"memory" + parts[2] + "/memory.limit_in_bytes", parts[2] + "/memory.max"} {
			b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", file))
			if err == nil && strings.TrimSpace(string(b)) == fmt.Sprint(limit) {
				return true
			}
		}
	}
	return false
}

// TestMemoryOfOne: --exec needs room for one generation only.
func TestMemoryOfOne(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		port := freePort(t)
		b := scratch(t, "--exec", "--", "/goserver", "-addr", fmt.Sprintf("127.0.0.1:%d", port), "-config", "/config")
		b.write("config", "eat=90")
		b.memory = 150 << 20
		c := b.run(r)
		c.await("generation ready", 1)
		l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", port), 0, 2, bothKinds...)
		for i := range 3 {
			c.hup()
			c.await("restart finished", i+2)
		}
		l.check()
		if c.logged("restart failed") > 0 || c.logged("service is started again; clients wait meanwhile") > 0 {
			t.Error("a start has failed")
		}
		c.signal(15)
		c.exit()
	})
}
