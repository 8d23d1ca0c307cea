package restart

import (
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/huptime/huptime/internal/probe"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// Mode is when the new generation of a restart starts.
type Mode uint8

const (
	// Fork starts it while the old one serves.
	Fork Mode = iota
	// Exec starts it when the old one is over: there are never two. Clients that come in
	// between wait in the accept queues of the preserved sockets.
	Exec
)

// Revive says which ends of the service are followed by a new start, with its listening sockets preserved.
type Revive string

const (
	ReviveNever     Revive = "never"
	ReviveOnFailure Revive = "on-failure" // another exit status than 0, or a signal
	ReviveAlways    Revive = "always"
)

// ParseRevive reads "never", "on-failure" or "always".
func ParseRevive(s string) (Revive, error) {
	switch r := Revive(s); r {
	case ReviveNever, ReviveOnFailure, ReviveAlways:
		return r, nil
	}
	return "", fmt.Errorf("use %s, %s or %s", ReviveAlways, ReviveOnFailure, ReviveNever)
}

// ever tells whether there is any such end.
func (r Revive) ever() bool { return r == ReviveAlways || r == ReviveOnFailure }

// after tells whether a service that ended so is started again.
func (r Revive) after(s Status) bool {
	return r == ReviveAlways || r == ReviveOnFailure && s.Code() != 0
}

// Config says what to run and how to restart it.
type Config struct {
	// Command is the service: a name that is looked up in PATH at each start,
	// and its arguments.
	Command []string
	// Mode is when the new generation starts.
	Mode Mode
	// Level is what the filter asks about.
	Level notify.Level
	// DrainTimeout is how long an old generation may take to finish its
	// connections before it gets its stop signal all the same.
	DrainTimeout time.Duration
	// IdleTimeout, if not 0, lets a drain end when all connections that are left have been idle for so long.
	IdleTimeout time.Duration
	// DatagramQuiet is for how long an old generation that answers datagrams must have done nothing before it ends; as a rule
	// sockets.DatagramQuiet.
	DatagramQuiet time.Duration
	// ReadyTimeout is how long a new generation may take until it listens and
	// waits on its sockets. Then it is killed, and the old one goes on.
	ReadyTimeout time.Duration
	// MinReady is how long a new generation must have served before the old one, which can take over again until then, is retired.
	MinReady time.Duration
	// AllowAddressChange lets a new generation be ready that has not bound every address which the old one serves.
	AllowAddressChange bool
	// ReadyWorkers is how many processes of a new generation must wait on each socket, if the old one has as many: 0 is
	// the first, sockets.AllWorkers as many as the old one has.
	ReadyWorkers int
	// Probes are asked once a new generation waits on its sockets; all must pass. ReadyInterval is how often, and how long one may take.
	Probes        []probe.Probe
	ReadyInterval time.Duration
	// ReadyStatus are the statuses of HTTP that pass.
	ReadyStatus probe.Statuses
	// Stage gives each generation sockets of its own, which get no clients before it is ready.
	Stage bool
	// StopSignal ends an old generation; it is sent to its leader.
	StopSignal syscall.Signal
	// StopGroup sends StopSignal, and TERM and INT, to every process of a generation instead.
	StopGroup bool
	// KillAfter is how long an old generation may live on after its stop signal, once
	// its connections are finished or have had DrainTimeout.
	KillAfter time.Duration
	// Wait never kills an old generation: it is over when its last process has ended by itself.
	Wait bool
	// StartRetries is how often a start is tried again that failed while no generation serves.
	StartRetries int
	// Revive says which ends of the service are followed by a new start.
	Revive Revive
	// Copies is how many copies of the service each generation has; 0 and 1 are one.
	Copies int
	// OwnSockets gives each copy sockets of its own, in SO_REUSEPORT groups; otherwise the copies share theirs.
	OwnSockets bool
	// JSON says that Log writes JSON: a pool's master, which is a process of its own, then does too.
	JSON bool
	// Listen are addresses that huptime listens on itself, from before the first start of the service to its own end.
	Listen []sockets.Endpoint
	// PassFDs hands the sockets of Listen, and what huptime itself was handed by LISTEN_FDS, to each generation at its start,
	// as systemd does. Otherwise the service gets them at its bind.
	PassFDs bool
	// PassHangup lets the service have SIGHUP: it may handle it, and the current leader gets
	// each one that restarts.
	PassHangup bool
	// EnvFile is a file of KEY=VALUE lines (package envfile) that are added to the environment of each
	// generation, read anew at its start. Empty is none.
	EnvFile string
	// Dir is the working directory of the service, resolved anew at each start. Empty is huptime's own.
	Dir string
	// Check is a shell command line that must succeed, within ReadyTimeout, before a restart begins. Empty is none.
	Check string
	// Unlink are files that are removed right before each generation starts: pid files. What is there
	// afterwards is the new generation's, and the old one can't remove it. Relative ones are relative to huptime's working directory.
	Unlink []string
	// Ready is called once, when generation 1 is ready. Nil is nobody.
	Ready func()
	// MaxGenerations is how many may live at once; a restart beyond it waits until one has ended.
	MaxGenerations int
	// BestEffort runs the service without huptime's help where seccomp user notification is not to be had; a restart then is a stop
	// and a start. Otherwise that is an error.
	BestEffort bool
	// Log takes what happens; nil is silence.
	Log *slog.Logger
	// Trace prints every notified call at debug level.
	Trace bool

	plain    bool              // without huptime's help
	standing *sockets.Standing // what Listen and LISTEN_FDS have given
}
