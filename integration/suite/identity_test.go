package suite

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onTerminal starts huptime as the foreground job of a terminal of its own.
func onTerminal(t *testing.T) option {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("unsupported here: no terminals: " + err.Error())
	}
	controller := os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { controller.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return func(cmd *exec.Cmd) {
		cmd.Stdin = tty
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
}

// inOwnSession starts huptime without a terminal, wherever the test runs.
func inOwnSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// line reads what the service says first of all, up to a newline.
func line(c *client) (string, error) {
	text, err := c.r.ReadString('\n')
	return strings.TrimSpace(text), err
}

// TestFaultC2JoinsGroup: an orphan of generation 1 has joined the process group of generation 2's leader, where huptime is on a
// terminal; without one it can't. It is gated and ended with its own generation.
func TestFaultC2JoinsGroup(t *testing.T) {
	for name, c := range map[string]struct {
		where  func(t *testing.T) option
		joined string
	}{
		"terminal": {onTerminal, "-1\n"},
		"none":     {func(*testing.T) option { return inOwnSession }, fmt.Sprintf("%d\n", syscall.EPERM)},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				dir := t.TempDir()
				port := freePort(t)
				addr := fmt.Sprintf("127.0.0.1:%d", port)
				h := start(t, []string{"--track=" + level, "--kill-after=500ms", "--max-generations=2",
					compiled(t, "joins"), strconv.Itoa(port), dir}, c.where(t))
				h.await("generation ready", 1)
				for range 20 {
					mustAsk(t, addr)
				}
				h.hup()
				h.await("restart finished", 2)
				if b, err := os.ReadFile(filepath.Join(dir, "joined")); err != nil || string(b) != c.joined {
					t.Errorf("the orphan's setpgid went %q, %v; want %q", b, err, c.joined)
				}
				leader := h.await("generation started", 2).PID
				for range 200 {
					if got, want := mustAsk(t, addr), fmt.Sprintf("leader %d", leader); got != want {
						t.Fatalf("%q answers, want %q", got, want)
					}
				}
				h.await("generation ended", 1)
				for range 20 {
					if got, want := mustAsk(t, addr), fmt.Sprintf("leader %d", leader); got != want {
						t.Fatalf("%q answers, want %q", got, want)
					}
				}
				h.hup()
				h.await("restart finished", 3)
				h.await("generation ended", 2)
			})
		})
	}
}

// mustAsk makes a connection and returns the line that comes.
func mustAsk(t *testing.T, addr string) string {
	t.Helper()
	c, err := dial(addr, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	text, err := line(c)
	if err == nil {
		_, err = c.r.ReadByte()
	}
	if err != io.EOF {
		t.Fatalf("after %q: %v", text, err)
	}
	return text
}

// TestFaultC2ForeignOrphan: huptime is PID 1 of a container. What somebody starts there beside it (docker exec) becomes its child, and is not
// killed with a generation.
func TestFaultC2ForeignOrphan(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("unsupported here: only root makes PID namespaces and mounts")
	}
	nsenter, sleep := program(t, "nsenter"), program(t, "sleep")
	for _, mode := range []string{"--exec", "--fork"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := golang(t, "-ignore-term")
				h := start(t, append([]string{mode, "--kill-after=200ms", "--track=" + level}, s.command...), func(cmd *exec.Cmd) {
					cmd.Args = append([]string{"sh", "-c", `mount -t proc proc /proc && exec "$0" "$@"`, huptime}, cmd.Args[1:]...)
					cmd.Path = program(t, "sh")
					cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS}
				})
				h.await("generation ready", 1)
				// A duration that nobody else sleeps for finds the process from outside.
				length := fmt.Sprintf("3600.%d", time.Now().UnixNano())
				out, err := exec.Command(nsenter, "-t", strconv.Itoa(h.cmd.Process.Pid), "-p", "sh", "-c",
					sleep+" "+length+" >/dev/null 2>&1 & exit 0").CombinedOutput()
				if err != nil {
					t.Fatalf("nsenter: %v: %s", err, out)
				}
				orphan := sleeping(t, length)
				h.hup()
				h.await("generation killed", 1)
				h.await("restart finished", 2)
				h.await("generation ended", 1)
				if err := syscall.Kill(orphan, 0); err != nil {
					t.Errorf("the foreign process is gone: %v", err)
				}
				s.mustAnswer(t)
				mustKill(t, orphan, syscall.SIGKILL)
				h.signal(syscall.SIGKILL) // ends the whole namespace: generation 2 is as deaf to SIGTERM
			})
		})
	}
}

// sleeping waits for the process that sleeps for so long, and finds its PID.
func sleeping(t *testing.T, length string) int {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			if b, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(b), "\x00"+length+"\x00") && strings.Count(string(b), "\x00") == 2 {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return pid
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the foreign process does not run")
		}
	}
}
