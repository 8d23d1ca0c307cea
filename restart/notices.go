package restart

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/huptime/huptime/internal/probe"
	"github.com/huptime/huptime/internal/sdnotify"
)

// manager is the service manager that has started huptime, as far as it wants to be notified (sd_notify(3)). The service never hears of it: it is
// given a socket of huptime's own.
type manager struct {
	socket   string        // NOTIFY_SOCKET; "" where there is none
	watchdog time.Duration // how often it wants to hear that huptime is alive; 0 is never

	mu    sync.Mutex
	first bool // generation 1 has said that it is ready: the others will be waited for
}

// The variables by which a service manager asks a process to notify it.
const (
	watchdogTime = "WATCHDOG_USEC"
	watchdogPID  = "WATCHDOG_PID"
)

// takeManager takes the service manager's variables out of the environment.
func takeManager() *manager {
	m := &manager{socket: os.Getenv(sdnotify.Variable)}
	if n, err := strconv.ParseUint(os.Getenv(watchdogTime), 10, 63); err == nil && m.socket != "" {
		if pid := os.Getenv(watchdogPID); pid == "" || pid == strconv.Itoa(os.Getpid()) {
			m.watchdog = time.Duration(n) * time.Microsecond / 2 // as sd_watchdog_enabled(3) advises
		}
	}
	for _, name := range []string{sdnotify.Variable, watchdogTime, watchdogPID} {
		os.Unsetenv(name)
	}
	return m
}

// notices is what one generation says of itself.
type notices struct {
	socket *sdnotify.Socket
	ready  chan struct{} // closed when it has said READY=1

	mu     sync.Mutex
	status string // what it has said last of what it does
}

// listenFor makes the socket of a generation; nil where nobody asks for one.
func (s *supervisor) listenFor(number int) (*notices, error) {
	if s.manager.socket == "" && !s.cfg.notified() {
		return nil, nil
	}
	socket, err := sdnotify.Listen(sdnotify.Options{
		Member: func(pid int) bool { return slices.Contains(s.census.Members(number), pid) },
		Log:    s.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return &notices{socket: socket, ready: make(chan struct{})}, nil
}

// notified tells whether a generation must say that it is ready.
func (c *Config) notified() bool {
	return slices.ContainsFunc(c.Probes, func(p probe.Probe) bool { return p.Kind() == probe.Notify })
}

// take takes the messages until the socket is closed.
func (n *notices) take(ready func()) {
	said := false
	for m := range n.socket.Messages() {
		if m.HasStatus {
			n.mu.Lock()
			n.status = m.Status
			n.mu.Unlock()
		}
		if m.Ready && !said {
			said = true
			ready()
			close(n.ready)
		}
	}
}

// await waits until the generation has said that it is ready.
func (n *notices) await(ctx context.Context) error {
	select {
	case <-n.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lacking says what is missing, in words.
func (n *notices) lacking() string {
	select {
	case <-n.ready:
		return ""
	default:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.status != "" {
		return "it has not said READY=1 (it says: " + n.status + ")"
	}
	return "it has not said READY=1"
}

func (n *notices) close() {
	if n != nil {
		n.socket.Close()
	}
}

// waitsForNotice tells whether a generation must say that it is ready: it was asked for, or generation 1 did so for the service manager.
func (s *supervisor) waitsForNotice(number int) bool {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	return s.cfg.notified() || s.manager.first && number > 1
}

// heardReady notes that a generation has said that it is ready.
func (s *supervisor) heardReady(number int) {
	if number != 1 || s.manager.socket == "" {
		return
	}
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	s.manager.first = true
}

// tell tells the service manager.
func (s *supervisor) tell(assignments ...string) {
	if err := sdnotify.Send(s.manager.socket, assignments...); err != nil {
		s.cfg.Log.Warn("cannot notify the service manager", "error", err.Error())
	}
}

// keepAlive tells the service manager that the machine's goroutine works, as long as it does. It runs there.
func (s *supervisor) keepAlive(m *machine) {
	if s.manager.watchdog <= 0 {
		return
	}
	go s.tell("WATCHDOG=1") // a datagram; in case that its queue is full not here
	m.after(s.manager.watchdog, func() { s.keepAlive(m) })
}
