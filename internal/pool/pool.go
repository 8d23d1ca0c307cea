// Package pool runs several copies of a service as one: the leader of a generation with --multi is this
// program, and the copies are its children. It hands signals on, starts a copy again that has died (--revive), and
// ends when the last copy has.
package pool

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/logqueue"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/signals"
)

// masterName is argv[0] of a pool's master. With its blank no user's command line is taken for it by accident.
const masterName = "huptime pool"

// Pauses between the starts of a copy that keeps dying.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
	provesItself  = 10 * time.Second
)

// Order says what a master is to do.
type Order struct {
	Copies int
	Stop   syscall.Signal // ends the copies, as TERM, INT and QUIT do: none is started again after it
	Ready  int            // descriptor from which a byte can be read when the generation is ready
	Always bool           // start a copy again however it ended
	Fail   bool           // start a copy again that failed
	Passed int            // how many descriptors, from 3 on, each copy is handed by LISTEN_FDS
	JSON   bool           // log in JSON
}

// Args is the argument list of a master, to which the path of the command and the command are appended.
func (o Order) Args() []string {
	return []string{masterName, strconv.Itoa(o.Copies), strconv.Itoa(int(o.Stop)), strconv.Itoa(o.Ready), strconv.Itoa(o.Passed),
		strconv.FormatBool(o.Always), strconv.FormatBool(o.Fail), strconv.FormatBool(o.JSON)}
}

// IsMaster tells whether this process was started to be a pool's master.
func IsMaster(args []string) bool { return len(args) > 9 && args[0] == masterName }

func parse(args []string) (o Order, path string, command []string) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	return Order{
		Copies: number(args[1]),
		Stop:   syscall.Signal(number(args[2])),
		Ready:  number(args[3]),
		Passed: number(args[4]),
		Always: args[5] == "true",
		Fail:   args[6] == "true",
		JSON:   args[7] == "true",
	}, args[8], args[9:]
}

// master is the state of a pool. One goroutine owns it; it keeps the main thread, at whose end the
// copies would be signalled (PR_SET_PDEATHSIG in prctl(2)).
type master struct {
	order   Order
	path    string
	command []string
	log     *slog.Logger

	copies   []copyOf
	ready    bool
	stopping bool
	failed   bool // it was not whole before it was ready: code is why
	code     int
	again    chan int // copies whose pause is over
}

type copyOf struct {
	pid   int // 0 while there is none
	began time.Time
	pause time.Duration
	timer *time.Timer // of the next start; nil where none is due
}

// flushLimit bounds how long the master's end waits for somebody to read what is yet to be logged.
const flushLimit = time.Second

func (o Order) logger(to io.Writer) *slog.Logger {
	if o.JSON {
		return slog.New(slog.NewJSONHandler(to, nil))
	}
	return slog.New(slog.NewTextHandler(to, nil))
}

// Run is the master's life. It returns its exit status: that of the copy that ended last, or of the one that died before
// the generation was ready.
func Run(args []string) int {
	m := &master{again: make(chan int)}
	m.order, m.path, m.command = parse(args)
	unix.CloseOnExec(m.order.Ready)
	_ = unix.SetNonblock(m.order.Ready, true)
	m.copies = make([]copyOf, m.order.Copies)
	// Nobody may read standard error: the copies get their signals all the same.
	queue := logqueue.New(os.Stderr, func(lines int) []byte {
		var line bytes.Buffer
		m.order.logger(&line).Warn("lines of the log were dropped: standard error took no more", "lines", lines)
		return line.Bytes()
	})
	defer queue.Close(flushLimit)
	m.log = m.order.logger(queue)
	_ = proc.SetComm("huptime-pool")
	heard, children := m.listen()
	for i := range m.copies {
		if !m.start(i) {
			m.stop(unix.SIGTERM)
			break
		}
	}
	for m.alive() || m.due() {
		select {
		case sig := <-heard:
			m.hear(sig.(syscall.Signal))
		case <-children:
			m.reap()
		case i := <-m.again:
			if !m.stopping && !m.start(i) {
				m.later(i, "it could not be started")
			}
		}
	}
	return m.code
}

// listen catches what is handed on. SIGHUP is left ignored where the service is deaf to it: a handler would make it hear again.
func (m *master) listen() (heard, children chan os.Signal) {
	heard, children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	forwarded := signals.Forwarded()
	if !signal.Ignored(unix.SIGHUP) {
		forwarded = append(forwarded, unix.SIGHUP)
	}
	signal.Notify(heard, forwarded...)
	signal.Notify(children, unix.SIGCHLD)
	return heard, children
}

func (m *master) alive() bool {
	for _, c := range m.copies {
		if c.pid != 0 {
			return true
		}
	}
	return false
}

func (m *master) due() bool {
	for _, c := range m.copies {
		if c.timer != nil {
			return true
		}
	}
	return false
}

// start forks copy i, in the generation's process group.
func (m *master) start(i int) bool {
	c := &m.copies[i]
	c.timer = nil
	path, command, files := m.path, m.command, []uintptr{0, 1, 2}
	if m.order.Passed > 0 {
		path, command = throughCopy(path, command)
		for fd := range m.order.Passed {
			files = append(files, uintptr(3+fd))
		}
	}
	pid, err := syscall.ForkExec(path, command, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: files,
		Sys:   &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM},
	})
	if err != nil {
		m.log.Error("cannot start a copy", "copy", i+1, "error", err.Error())
		if !m.ready {
			m.code, m.failed = 126, true
		}
		return false
	}
	c.pid, c.began = pid, time.Now()
	return true
}

// hear hands a signal on to every copy.
func (m *master) hear(sig syscall.Signal) {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, m.order.Stop:
		m.stop(sig)
	default:
		m.signal(sig)
	}
}

// stop ends the pool: no copy is started any more.
func (m *master) stop(sig syscall.Signal) {
	m.stopping = true
	for i := range m.copies {
		if t := m.copies[i].timer; t != nil {
			t.Stop()
			m.copies[i].timer = nil
		}
	}
	m.signal(sig)
}

func (m *master) signal(sig syscall.Signal) {
	for _, c := range m.copies {
		if c.pid != 0 {
			_ = unix.Kill(c.pid, sig)
		}
	}
}

// reap takes the statuses of copies that have ended.
func (m *master) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for i := range m.copies {
			if m.copies[i].pid == pid {
				m.copies[i].pid = 0
				m.ended(i, proc.Status(status))
			}
		}
	}
}

// isReady tells whether the supervisor has said that the generation is.
func (m *master) isReady() bool {
	if !m.ready {
		n, _ := unix.Read(m.order.Ready, make([]byte, 1))
		m.ready = n == 1
	}
	return m.ready
}

// ended decides what the end of copy i means.
func (m *master) ended(i int, status proc.Status) {
	switch {
	case m.stopping:
		if !m.failed {
			m.code = status.Code()
		}
	case !m.isReady():
		// A generation that is not whole does not replace one that is.
		m.log.Error("a copy ended before the generation was ready", "copy", i+1, "status", status.String())
		m.code, m.failed = status.Code(), true
		m.stop(unix.SIGTERM)
	case m.order.Always || m.order.Fail && status.Code() != 0:
		m.later(i, status.String())
	default:
		m.code = status.Code()
		m.log.Warn("copy ended; it is not started again (--revive does that)", "copy", i+1, "status", status.String())
	}
}

// later sets the time of the next start of copy i, which has ended or could not be started: a deploy may be about to write its file (ETXTBSY),
// or the machine out of processes.
func (m *master) later(i int, why string) {
	c := &m.copies[i]
	if !c.began.IsZero() && time.Since(c.began) >= provesItself {
		c.pause = 0
	}
	c.began = time.Time{}
	c.pause = min(max(2*c.pause, shortestPause), longestPause)
	m.log.Warn("copy is started again", "copy", i+1, "status", why, "in", c.pause.String())
	c.timer = time.AfterFunc(c.pause, func() { m.again <- i })
}
