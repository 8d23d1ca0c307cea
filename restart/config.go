package restart

import (
	"log/slog"
	"syscall"
	"time"

	"huptime/notify"
)

// Config says what to run and how to restart it.
type Config struct {
	// Command is the service: a name that is looked up in PATH at each start,
	// and its arguments.
	Command []string
	// Level is what the filter asks about.
	Level notify.Level
	// DrainTimeout is how long an old generation may take to finish its
	// connections before it gets its stop signal all the same.
	DrainTimeout time.Duration
	// ReadyTimeout is how long a new generation may take until it listens and
	// waits on its sockets. Then it is killed, and the old one goes on.
	ReadyTimeout time.Duration
	// StopSignal ends an old generation; it is sent to its leader.
	StopSignal syscall.Signal
	// KillAfter is how long an old generation may live on after its stop signal.
	KillAfter time.Duration
	// MaxGenerations is how many may live at once; a restart beyond it waits until one has ended.
	MaxGenerations int
	// Unlink are files that the service makes at its start and removes at its
	// end (pid files): an old generation can't remove what is its successor's by
	// then. Relative ones are relative to huptime's working directory.
	Unlink []string
	// Log takes what happens; nil is silence.
	Log *slog.Logger
	// Trace prints every notified call at debug level.
	Trace bool
}
