package restart

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

// maxCheckOutput bounds what is kept of a check's output, in bytes: its end, where the reason is.
const maxCheckOutput = 4 << 10

// shell runs a check. It is the one that POSIX has at this place.
const shell = "/bin/sh"

// check is one run of the command that says whether a restart may begin. It is
// a child of the supervisor's without a filter, at the head of a process group of its own.
type check struct {
	launcher *notify.Launcher
	output   *os.File    // the pipe that it writes to; owned by await
	ended    chan Status // capacity 1: gets the status that the reaper saw
	kept     chan []byte // capacity 1: gets the end of what it wrote
	refused  chan error  // capacity 1: gets why it could not be started, or nil
	over     bool        // reaped; the machine's goroutine owns it
	why      error       // why it was killed; read only after ended
}

// check implements host.
func (s *supervisor) check(done func(output string, err error)) (cancel func(why error)) {
	argv, err := checkCommand(s.cfg.Check, hasShell())
	if err != nil {
		go done("", err) // not from in here, where the machine's goroutine would wait for itself
		return func(error) {}
	}
	return s.command(beside{argv: argv}, func(o outcome) { done(o.output, checkOutcome(o)) })
}

// beside is a command that is run beside the service, in its directory and environment.
type beside struct {
	argv []string
	env  []string // what is added to the environment
	// watch answers the command's connect calls; nil runs it without a filter.
	watch *watch
}

// command runs a command. It runs on the machine's goroutine, as reap
// does: so the command cannot be reaped before it is known, and is not killed after that. done is called once, later and on another
// goroutine.
func (s *supervisor) command(b beside, done func(outcome)) (cancel func(why error)) {
	c, err := s.startCommand(b)
	if err != nil {
		go done(outcome{refused: err}) // not from in here, where the machine's goroutine would wait for itself
		return func(error) {}
	}
	pid := c.launcher.PID
	s.watched[pid] = func(status Status) {
		delete(s.watched, pid)
		c.over = true
		// What it left behind in its group is no part of the service, and ends with it.
		_ = unix.Kill(-pid, unix.SIGKILL)
		s.census.Checked(pid)
		c.ended <- status
	}
	go func() { // ends with the check
		c.refused <- c.launcher.Handshake(b.watch.serving(pid))
	}()
	go c.keep()
	go func() { // ends when the check has been reaped
		done(c.await())
	}()
	return func(why error) {
		if !c.over {
			c.why = why
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
	}
}

func (s *supervisor) startCommand(b beside) (*check, error) {
	l, err := s.setting()
	if err != nil {
		return nil, err
	}
	l.Command = b.argv
	if len(b.env) > 0 {
		if l.Env == nil {
			l.Env = os.Environ()
		}
		l.Env = append(l.Env, b.env...)
	}
	// Standard input is at its end: a pipe that nobody writes to, because an empty root has no /dev/null.
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot run a command: %w", os.NewSyscallError("pipe2", err))
	}
	unix.Close(in[1])
	defer unix.Close(in[0])
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot run a command: %w", os.NewSyscallError("pipe2", err))
	}
	defer unix.Close(out[1])
	if l.Unfiltered = b.watch == nil; b.watch != nil {
		l.Program = b.watch.program
	}
	l.Stdio = &[3]int{in[0], out[1], out[1]}
	var launcher *notify.Launcher
	err = s.census.BeginCheck(starts(l, &launcher))
	if err != nil {
		unix.Close(out[0])
		return nil, err
	}
	_ = unix.SetNonblock(out[0], true) // this end only: the check's writes wait
	return &check{
		launcher: launcher,
		output:   os.NewFile(uintptr(out[0]), "check"),
		ended:    make(chan Status, 1),
		kept:     make(chan []byte, 1),
		refused:  make(chan error, 1),
	}, nil
}

func hasShell() bool { return unix.Access(shell, unix.X_OK) == nil }

// checkCommand is how a check's command line is run: by the shell. Where there is none (an image from scratch),
// it is a program and its arguments, with blanks between them.
func checkCommand(line string, haveShell bool) ([]string, error) {
	if haveShell {
		return []string{shell, "-c", line}, nil
	}
	if strings.ContainsAny(line, "'\"`\\$&|;<>()*?[]{}~#!\n") {
		return nil, fmt.Errorf("cannot run the check: it needs a shell, and there is no %s; write a program and its arguments only", shell)
	}
	return strings.Fields(line), nil
}

// keep reads the output to its end, or to a deadline, and keeps the last of it.
func (c *check) keep() {
	var kept []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := c.output.Read(buf)
		kept = lastOf(append(kept, buf[:n]...))
		if err != nil {
			break
		}
	}
	c.kept <- kept
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// lastOf is the end of b that is kept.
func lastOf(b []byte) []byte { return b[max(0, len(b)-maxCheckOutput):] }

// await waits for the end of the command and says how it went.
func (c *check) await() outcome {
	o := outcome{status: <-c.ended}
	// Somebody who has left its group may hold the pipe open for ever, so what is in it now is the output. A read with
	// a deadline that is over reads nothing, hence the last look without it.
	_ = c.output.SetReadDeadline(past)
	kept := lastOf(append(<-c.kept, c.rest()...))
	c.output.Close()
	o.output = strings.ToValidUTF8(strings.TrimSpace(string(kept)), "\ufffd")
	if o.refused = <-c.refused; errors.Is(o.refused, notify.ErrLauncherDied) {
		o.refused = nil // its status says more
	}
	o.why = c.why
	return o
}

// outcome is how a command has ended.
type outcome struct {
	output  string // the end of it
	refused error  // why it could not be run, or nil
	why     error  // why it was killed, or nil
	status  Status
}

// checkOutcome says what the end of the check means; nil is that it has passed.
func checkOutcome(o outcome) error {
	switch {
	case o.why != nil:
		return fmt.Errorf("the check %w", o.why)
	case o.refused != nil:
		return fmt.Errorf("the check can't be run: %w", o.refused)
	case unix.WaitStatus(o.status).Signaled():
		return fmt.Errorf("the check was %s", o.status)
	case o.status.Code() != 0:
		return fmt.Errorf("the check %s", o.status)
	}
	return nil
}

// rest is what is in the pipe: at most what a pipe holds at once.
func (c *check) rest() []byte {
	const pipeSize = 64 << 10 // pipe(7)
	raw, err := c.output.SyscallConn()
	if err != nil {
		return nil
	}
	buf := make([]byte, pipeSize)
	n := 0
	_ = raw.Control(func(fd uintptr) {
		for n < len(buf) {
			m, err := unix.Read(int(fd), buf[n:])
			if err == unix.EINTR {
				continue
			}
			if err != nil || m <= 0 {
				return
			}
			n += m
		}
	})
	return buf[:n]
}
