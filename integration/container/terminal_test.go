package container

import (
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// runOnTerminal starts the container as `docker run -it` does: the runtime has a terminal, and gives the container one
// of its own. What is written to the first is typed.
func (b *bundle) runOnTerminal(r string) (*container, *os.File) {
	b.t.Helper()
	b.tty = true
	b.configure()
	// Non-blocking, so that Close ends a Read.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		missing(b.t, "pseudo terminals: "+err.Error())
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		b.t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		b.t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer slave.Close()
	c := &container{t: b.t, b: b, runtime: r, exited: make(chan struct{}), changed: make(chan struct{})}
	c.cmd = command(r, b.dir, "run", "--bundle", b.dir, b.id())
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, slave
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	c.watch(master)
	return c, master
}

// TestTerminal: the service has the foreground, so Ctrl-C, Ctrl-\ and changes of the window's size are for it, before a restart and after.
func TestTerminal(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r string) {
		b := scratch(t, "--ready-timeout=300ms", "--", "/inside", "signals")
		c, keyboard := b.runOnTerminal(r)
		c.awaitOutput("listens true")
		size := func(rows uint16) {
			t.Helper()
			if err := unix.IoctlSetWinsize(int(keyboard.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 80}); err != nil {
				t.Fatal(err)
			}
		}
		size(33)
		c.awaitOutput("signal 28")
		keyboard.WriteString("\x1c") // Ctrl-\
		c.awaitOutput("signal 3")
		keyboard.WriteString("\x03") // Ctrl-C
		c.awaitOutput("signal 2")
		c.signal(unix.SIGTERM)
		if status := c.exit(); status != 42 {
			t.Errorf("exit status %d", status)
		}
	})
}
