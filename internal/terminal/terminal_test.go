package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests impersonate a supervisor, whose standard input is a terminal of its own.
const roleName = "HUPTIME_TERMINAL_ROLE"

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleName)]
	if !ok {
		os.Exit(m.Run())
	}
	signal.Ignore(unix.SIGTTOU)
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print("done")
}

var roles = map[string]func() error{"foreground": foreground, "background": background}

func group() (int, error) { return unix.IoctlGetInt(0, unix.TIOCGPGRP) }

func expect(what string, want int) error {
	if got, err := group(); got != want || err != nil {
		return fmt.Errorf("%s: the foreground is group %d, %v; want %d", what, got, err, want)
	}
	return nil
}

// job starts a process in a group of its own.
func job() (*exec.Cmd, error) {
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

func foreground() error {
	own := unix.Getpgrp()
	if err := expect("at first", own); err != nil {
		return err
	}
	t := Controlling()
	if t == nil {
		return errors.New("no controlling terminal, in its foreground")
	}
	var jobs []*exec.Cmd
	for range 2 {
		cmd, err := job()
		if err != nil {
			return err
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		jobs = append(jobs, cmd)
	}
	for _, cmd := range jobs {
		t.Give(cmd.Process.Pid)
		if err := expect("given", cmd.Process.Pid); err != nil {
			return err
		}
	}
	// From the background now. A group that has ended changes nothing.
	second := jobs[1].Process.Pid
	_ = jobs[0].Process.Kill()
	_ = jobs[0].Wait()
	t.Give(jobs[0].Process.Pid)
	if err := expect("after an ended group", second); err != nil {
		return err
	}
	for range 2 {
		t.Restore()
		if err := expect("restored", own); err != nil {
			return err
		}
	}
	return nil
}

func background() error {
	cmd, err := job()
	if err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	Controlling().Give(cmd.Process.Pid)
	// As one that was started in the background.
	t := Controlling()
	if t != nil {
		return errors.New("the terminal is another job's")
	}
	t.Give(unix.Getpgrp())
	t.Restore()
	return expect("not ours to give", cmd.Process.Pid)
}

// terminal makes a pseudo-terminal.
func terminal(t *testing.T) (controller, slave *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("unsupported here: pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = controller.Close() })
	raw := int(controller.Fd())
	if err := unix.IoctlSetPointerInt(raw, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(raw, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("unsupported here: pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return controller, slave
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for role := range roles {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			_, slave := terminal(t)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, self)
			cmd.Env = append(os.Environ(), roleName+"="+role)
			cmd.Stdin = slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.WaitDelay = time.Second
			if err := cmd.Run(); err != nil || out.String() != "done" {
				t.Errorf("%v: %s", err, out.String())
			}
		})
	}
}

// Where there is none, nothing happens. (go test gives its tests no terminal.)
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	if foreground, err := group(); err == nil && foreground == unix.Getpgrp() {
		t.Skip("unsupported here: the test itself is run in the foreground of a terminal")
	}
	none := Controlling()
	if none != nil {
		t.Fatalf("%+v", none)
	}
	none.Give(1)
	none.Restore()
}
