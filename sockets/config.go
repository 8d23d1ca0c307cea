package sockets

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// Config is what a tracker has to know before its generation makes its first call.
type Config struct {
	Generation int // 1 is the first
	Level      notify.Level
	// From is what the generation may claim; nil for the first one. It stays the caller's.
	From *Preserved
	// Processes lists the generation's processes; it is asked rarely. nil: none is known.
	Processes func() []int
	// Resolve, if there is one, finds out whose the processes are of which Processes can't tell. AwaitReady calls it.
	Resolve func()
	Knocks  *Knocks      // shared by all generations
	Log     *slog.Logger // nil: nothing is logged

	Asks Asks // what the generation must show to be ready
	// Files are those that a service makes and removes by itself and that its successor makes anew (pid files): see
	// [Tracker.HandOver]. Relative ones are relative to the supervisor's working directory.
	Files []string
	// Passed: the generation starts with the standing sockets open (LISTEN_FDS). It need not bind them or listen on them, and
	// is ready when it waits on them.
	Passed bool

	// Copies is how many copies of the service the generation has; 0 is one. With OwnSockets each gets a socket of its own
	// in one SO_REUSEPORT group; otherwise they share one. More than one need [Tracker.Keep] to run.
	Copies     int
	OwnSockets bool

	// Idle, if it is not 0, makes a drain end also when all connections that are left have been idle for so long: nothing
	// was sent or received on them, and no byte waits. Connections of unix sockets, and UDP sockets that have a peer, are
	// never idle: the kernel does not tell.
	Idle time.Duration
	// Rest is for how long the generation must have done nothing before it ends, once it was gated on datagram sockets: as
	// long as it takes to answer where that can't be seen, because it sleeps meanwhile; as a rule [DatagramQuiet].
	Rest time.Duration
}

// validate tells what can't be meant.
func (c *Config) validate() error {
	switch {
	case c.Generation < 1:
		return errors.New("generations are numbered from 1")
	case c.Knocks == nil:
		return errors.New("a tracker needs the Knocks that all generations share")
	case c.Copies < 0, c.Idle < 0, c.Rest < 0:
		return errors.New("a number of copies, or a time, is negative")
	}
	return nil
}

// New makes the handler for a generation, or says what is wrong with its configuration.
func New(c Config) (*Tracker, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Processes == nil {
		c.Processes = func() []int { return nil }
	}
	t := newTracker(&c)
	if c.Copies > 1 {
		t.sharing = &sharing{copies: c.Copies, own: c.OwnSockets, first: make(map[sockaddr.Key]owner)}
	}
	if c.Passed {
		t.pass()
	}
	return t, nil
}
