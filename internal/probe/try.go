package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Options say how an attempt is made.
type Options struct {
	// Timeout bounds the attempt as a whole; 0 leaves it to the context.
	Timeout time.Duration
	// Statuses are those that pass of http and https.
	Statuses Statuses
	// Dial makes the one connection of an attempt, network is "tcp". The connection is Try's, which closes it before it
	// returns. A nil one dials as package net does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Run runs a command of exec to its end; there is no other way to run one. It kills the command and returns when
	// the context is done. Output is what it wrote, or the end of that. Ended is empty if it exited with status 0,
	// otherwise it says what became of it ("exited with status 3", "was killed by SIGSEGV"). The error says that it
	// could not be run, or not to its end.
	Run func(ctx context.Context, argv, env []string, dir string) (output []byte, ended string, err error)
	// Env and Dir are handed to Run as they are.
	Env []string
	Dir string
}

// Try makes one attempt. It returns nil if the service says that it serves. The error is one line that names the probe
// and says what came of it: "http://127.0.0.1:8080/health answered 503 Service Unavailable: warming up". If the context
// was done first, the error matches its cause.
func (p Probe) Try(ctx context.Context, o Options) error {
	limited := ctx
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	err := p.try(limited, o)
	switch {
	case err == nil:
		return nil
	case !cutShort(err):
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", p, context.Cause(ctx))
	case limited.Err() != nil:
		return fmt.Errorf("%s: no answer within %s", p, o.Timeout)
	}
	return fmt.Errorf("%s%w", p, err)
}

func (p Probe) try(ctx context.Context, o Options) error {
	switch p.kind {
	case TCP:
		return p.tryTCP(ctx, o)
	case HTTP, HTTPS:
		return p.tryHTTP(ctx, o)
	case GRPC:
		return p.tryGRPC(ctx, o)
	case Exec:
		return p.tryExec(ctx, o)
	}
	return &failure{text: ": nothing can be tried: it is seen, or said by the service"}
}

// cutShort tells whether an attempt failed because it was ended from here: what a service answered counts also when
// time has run out since.
func cutShort(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)
}

// dial makes the connection of an attempt; it is the caller's.
func (p Probe) dial(ctx context.Context, o Options) (net.Conn, error) {
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", p.endpoint())
	if err != nil {
		if ctx.Err() != nil {
			// A connection attempt that runs out of time says "i/o timeout", which matches nothing.
			err = ctx.Err()
		}
		return nil, broken("cannot connect: ", err)
	}
	return &connection{Conn: conn}, nil
}

// connection is closed when any Close of it returns. That of package net returns at once where another goroutine (the
// transport's) is about to close it: then the port would still be in use for a moment.
type connection struct {
	net.Conn
	once sync.Once
	err  error
}

func (c *connection) Close() error {
	c.once.Do(func() { c.err = c.Conn.Close() })
	return c.err
}

func (p Probe) tryTCP(ctx context.Context, o Options) error {
	conn, err := p.dial(ctx, o)
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}
