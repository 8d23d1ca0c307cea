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
	// EnvFile is a file of KEY=VALUE lines (package envfile) that are added to the environment of each
	// generation, read anew at its start. Empty is none.
	EnvFile string
	// Dir is the working directory of the service, resolved anew at each start. Empty is huptime's own.
	Dir string
	// Check is a shell command line that must succeed, within ReadyTimeout, before a restart begins. Empty is none.
	Check string
	// Unlink are files that are removed right before each generation starts.
	Unlink []string
	// Ready is called once, when generation 1 is ready. Nil is nobody.
	Ready func()
	// MaxGenerations is how many may live at once; a restart beyond it waits until one has ended.
	MaxGenerations int
	// Log takes what happens; nil is silence.
	Log *slog.Logger
	// Trace prints every notified call at debug level.
	Trace bool
}
