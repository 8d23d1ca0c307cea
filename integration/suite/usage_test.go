package suite

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBadUsage: bad input gets one line that says what is wrong and what to do, and a documented status.
func TestBadUsage(t *testing.T) {
	dir := t.TempDir()
	plain := write(t, filepath.Join(dir, "plain"), "no program")
	lost := write(t, filepath.Join(dir, "lost"), "#!/does/not/exist\n")
	os.Chmod(lost, 0o755)
	cases := []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no command", nil, 125, "no command"},
		{"no command after --", []string{"--"}, 125, "no command"},
		{"empty command", []string{""}, 125, "no command"},
		{"unknown flag", []string{"--frok", "true"}, 125, "--frok"},
		{"negative duration", []string{"--drain-timeout=-1s", "true"}, 125, "--drain-timeout"},
		{"negative kill-after", []string{"--kill-after=-1s", "true"}, 125, "--kill-after"},
		{"no duration", []string{"--ready-timeout=soon", "true"}, 125, "--ready-timeout"},
		{"no time to be ready", []string{"--ready-timeout=0", "true"}, 125, "--ready-timeout"},
		{"no such signal", []string{"--stop-signal=TREM", "true"}, 125, "TREM"},
		{"no such number", []string{"--stop-signal=99", "true"}, 125, "99"},
		{"no such level", []string{"--track=everything", "true"}, 125, "--track"},
		{"no such format", []string{"--log-format=xml", "true"}, 125, "--log-format"},
		{"no fork", []string{"--fork=false", "true"}, 125, "--fork"},
		{"not found", []string{"/does/not/exist"}, 127, "not found"},
		{"not in PATH", []string{"does-not-exist-anywhere"}, 127, "not found"},
		{"not executable", []string{plain}, 126, "not executable"},
		{"a directory", []string{dir}, 126, "not executable"},
		{"lost interpreter", []string{lost}, 127, "cannot execute"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, stderr := runToEnd(t, exec.Command(huptime, c.args...))
			if status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "huptime: ") || !strings.Contains(stderr, c.says) {
				t.Errorf("it says %q; want one line with %q", stderr, c.says)
			}
		})
	}
}

// runToEnd runs a command that ends by itself.
func runToEnd(t *testing.T, cmd *exec.Cmd) (status int, stderr string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	return shellStatus(cmd.ProcessState), out.String()
}

func TestHelpAndVersion(t *testing.T) {
	for _, flag := range []string{"--help", "-h", "--version"} {
		out, err := exec.Command(huptime, flag).Output()
		if err != nil || !bytes.Contains(out, []byte("huptime")) {
			t.Errorf("%s: %v, %q", flag, err, out)
		}
	}
}

// TestFlagsAreTheServicesOwn: parsing stops at the first word that is no flag.
func TestFlagsAreTheServicesOwn(t *testing.T) {
	for _, args := range [][]string{
		{"--seccomp", "--fork", "echo", "--debug", "--help"},
		{"echo", "--debug", "--help"},
		{"--", "echo", "--debug", "--help"},
	} {
		out, err := exec.Command(huptime, args...).Output()
		if err != nil || string(out) != "--debug --help\n" {
			t.Errorf("%q: %v, %q", args, err, out)
		}
	}
}

func TestHuptimeUnderHuptime(t *testing.T) {
	status, stderr := runToEnd(t, exec.Command(huptime, huptime, "true"))
	if status != 125 || !strings.Contains(stderr, "huptime under huptime") {
		t.Errorf("exit status %d, %q", status, stderr)
	}
}

// TestNoUserNotification: a kernel or container without it, by a filter that answers seccomp(2) as they do.
func TestNoUserNotification(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EINVAL, unix.ENOSYS, unix.EPERM} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", huptime, "touch", "/does/not/exist")
			cmd.Env = append(os.Environ(), fmt.Sprintf("SUITE_DENY=seccomp %d", int(errno)))
			status, stderr := runToEnd(t, cmd)
			if status != 125 || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "huptime: ") {
				t.Errorf("exit status %d, %q", status, stderr)
			}
		})
	}
}

// TestLevelIsChosen: auto takes what is permitted.
func TestLevelIsChosen(t *testing.T) {
	for deny, want := range map[string]string{"": "listeners", "ptrace": "connections"} {
		t.Run(want, func(t *testing.T) {
			s := golang(t)
			h := start(t, append([]string{"--track=auto"}, s.command...), denied(deny, unix.EPERM))
			if e := h.await("level chosen", 0); e.Track != want {
				t.Errorf("the level is %s, want %s", e.Track, want)
			}
			h.await("generation ready", 1)
			l := startLoad(t, s.addr, s.ask, 2)
			for i := range 5 {
				before := l.pids()
				h.hup()
				h.await("restart finished", i+2)
				l.awaitNewPID(before)
				h.await("generation ended", i+1)
			}
			l.check("auto")
		})
	}
}
