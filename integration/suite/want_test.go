package suite

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// unshared is a command in new namespaces, or skips the test where that is not permitted.
func unshared(t *testing.T, flags []string, command ...string) *exec.Cmd {
	t.Helper()
	unshare := program(t, "unshare")
	flags = append([]string{"--map-root-user"}, flags...)
	if out, err := exec.Command(unshare, append(flags, "true")...).CombinedOutput(); err != nil {
		t.Skipf("unsupported here: %q: %s", flags, out)
	}
	return exec.Command(unshare, append(append(flags, "--"), command...)...)
}

// TestFaultD8FullDisk: a pid file that can't be written is one line and status 125; nothing is left behind, and nothing
// runs.
func TestFaultD8FullDisk(t *testing.T) {
	dir := t.TempDir()
	const script = `mount -t tmpfs -o size=4k none "$1" && head -c 4096 /dev/zero >"$1"/fill || exit 99
		"$0" --pid-file="$1"/pid touch "$1"/ran; status=$?
		for f in "$1"/* "$1"/.[!.]*; do [ -e "$f" ] && [ "$f" != "$1"/fill ] && echo "left: $f" >&2; done; exit $status`
	status, stderr := runToEnd(t, unshared(t, []string{"--mount"}, "/bin/sh", "-c", script, huptime, dir))
	if status != 125 || !one(stderr, dir+"/pid", "no space left") {
		t.Errorf("exit status %d, %q", status, stderr)
	}
}

// TestFaultD8OtherProc: where /proc is not that of huptime's own PID namespace, one line says so.
func TestFaultD8OtherProc(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ran")
	status, stderr := runToEnd(t, unshared(t, []string{"--pid", "--fork"}, huptime, "--best-effort", "touch", mark))
	if status != 125 || !one(stderr, "/proc", "another PID namespace", "mount -t proc") {
		t.Errorf("exit status %d, %q", status, stderr)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the service ran")
	}
}

// TestFaultD8ListenFile: wherever huptime fails for lack of descriptors, the file of a socket that it has made for
// --listen does not stay.
func TestFaultD8ListenFile(t *testing.T) {
	path := shortDir(t) + "/s"
	failed := 0
	for limit := 4; limit < 40; limit++ {
		script := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, limit)
		status, stderr := runToEnd(t, exec.Command("/bin/sh", "-c", script, huptime, "--listen=unix://"+path, "true"))
		if status != 0 {
			failed++
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("with %d descriptors: the file is left, status %d: %s", limit, status, stderr)
			os.Remove(path)
		}
	}
	t.Logf("%d failed", failed)
	if failed == 0 {
		t.Error("nothing failed")
	}
	if status, stderr := runToEnd(t, exec.Command(huptime, "--listen=unix://"+path, "true")); status != 0 {
		t.Errorf("without a limit: exit status %d, %q", status, stderr)
	}
}

// TestFaultD8UnixGrow: a service may make unix sockets for ever; what it has closed costs huptime no descriptor.
func TestFaultD8UnixGrow(t *testing.T) {
	const made, most = 2000, 400
	eachLevel(t, func(t *testing.T, level string) {
		s := python(t, "thread")
		port := strconv.Itoa(portOf(t, s.addr))
		s.command = []string{s.command[0], "testdata/growing.py", port, s.version, shortDir(t), strconv.Itoa(made)}
		h := s.run(t, level)
		h.awaitOutput("made")
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("huptime has %d descriptors after %d sockets", len(list), made)
		if len(list) > most {
			t.Errorf("huptime has %d descriptors after %d sockets", len(list), made)
		}
		restarts(t, h, s, 2)
	})
}
