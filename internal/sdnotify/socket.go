package sdnotify

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Variable is the environment variable that names the socket to those who send.
const Variable = "NOTIFY_SOCKET"

// Options say how a socket is made.
type Options struct {
	// Member tells whether a process is of the generation that the socket is for. It is called on the reader's
	// goroutine. The process may have ended since it sent. 0 is never asked about: that is a process that huptime's pid
	// namespace can't see.
	Member func(pid int) bool
	// Directories are where a directory for the socket is tried to be made. If nil they are those of doc.go; if empty,
	// the name is abstract.
	Directories []string
	// Log gets a line at the first datagram that was dropped. Nil is quiet.
	Log *slog.Logger
}

// Socket hears what one generation says. It holds a descriptor, which Close closes.
type Socket struct {
	conn      *net.UnixConn
	address   string
	directory string // empty for an abstract name
	member    func(pid int) bool
	log       *slog.Logger
	dropped   bool // the log has said so; the reader's
	limit     limiter

	received chan received // from the reader to the deliverer, who closes what is in it
	messages chan Message
	failed   error // why the reader ended; read after messages is closed

	once sync.Once
	done chan struct{}
	wait sync.WaitGroup
}

// Listen makes a socket and begins to read it. The caller owns it and must call Close, and take the messages until
// then.
func Listen(o Options) (*Socket, error) {
	directories := o.Directories
	if directories == nil {
		directories = usual()
	}
	return listen(o, directories, limiter{burst: burst, interval: interval})
}

func listen(o Options, directories []string, limit limiter) (*Socket, error) {
	conn, address, directory, err := bind(directories)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket for %s: %w", Variable, err)
	}
	s := &Socket{
		conn:      conn,
		address:   address,
		directory: directory,
		member:    o.Member,
		log:       o.Log,
		limit:     limit,
		received:  make(chan received),
		messages:  make(chan Message),
		done:      make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	// Both end at Close, or when the socket can't be read any more.
	s.wait.Go(s.read)
	s.wait.Go(s.deliver)
	return s, nil
}

// Address is the socket's name: a path, or an @ and an abstract name.
func (s *Socket) Address() string { return s.address }

// Env is what a service's environment must have: NOTIFY_SOCKET=ADDRESS.
func (s *Socket) Env() string { return Variable + "=" + s.address }

// Messages is where the generation's messages come out, in their order. It has no buffer. It is closed by Close, and
// when the socket can't be read any more; Err then says why.
func (s *Socket) Messages() <-chan Message { return s.messages }

// Err is why there are no more messages, nil after Close. Call it when Messages has been closed.
func (s *Socket) Err() error { return s.failed }

// Close ends the socket: who sends to it has ECONNREFUSED, who waits for a barrier waits no longer, and messages that
// were not taken are lost. It returns when both goroutines have ended; a second call does nothing more.
func (s *Socket) Close() {
	s.once.Do(func() {
		close(s.done)
		// A deadline instead would leave the reader's next read blocked.
		_ = s.conn.Close()
		s.wait.Wait()
		if s.directory != "" {
			remove(s.directory)
		}
	})
}

const (
	// burst and interval bound what is read: so many datagrams at once, then one per interval. It is far above what any
	// service has to say (systemd's watchdog is asked for every few seconds), and costs about a hundredth of a
	// processor.
	burst    = 100
	interval = 10 * time.Millisecond
)

// limiter says how long to wait before the next datagram. It is a bucket of burst tokens that gets one per interval.
type limiter struct {
	burst    int
	interval time.Duration
	full     time.Time // when the bucket will be full again
}

// take takes a token and returns how long to wait until it is there.
func (l *limiter) take(now time.Time) time.Duration {
	if l.full.Before(now) {
		l.full = now
	}
	l.full = l.full.Add(l.interval)
	return max(0, l.full.Sub(now)-time.Duration(l.burst)*l.interval)
}
