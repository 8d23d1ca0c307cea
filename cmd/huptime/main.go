// Command huptime runs an unmodified service and restarts it on SIGHUP with
// zero downtime.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/activation"
	"github.com/huptime/huptime/internal/daemon"
	"github.com/huptime/huptime/internal/logqueue"
	"github.com/huptime/huptime/internal/pidfile"
	"github.com/huptime/huptime/internal/pool"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/restart"
)

// version is set by the Makefile.
var version = "unknown"

func main() {
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	if notify.IsLauncher(args) {
		return notify.RunLauncher(args)
	}
	if pool.IsMaster(args) {
		return pool.Run(args)
	}
	if pool.IsCopy(args) {
		return pool.RunCopy(args)
	}
	var ready func()
	if daemon.IsBackground(args) {
		var err error
		if args, ready, err = daemon.Adopt(args); err != nil {
			return fail(stderr, restart.ExitFailure, err)
		}
		activation.Stay()
	}
	o, err := parse(args[1:])
	if err != nil {
		return fail(stderr, restart.ExitFailure, err)
	}
	switch {
	case o.help:
		fmt.Fprint(stdout, usage())
		return 0
	case o.version:
		fmt.Fprintf(stdout, "huptime %s\n", version)
		return 0
	}
	if o.daemon && ready == nil {
		return background(args, stderr)
	}
	// A write beyond a limit of a file's size (ulimit -f) is to fail, not to end the supervisor. The launcher gives
	// services the default.
	signal.Ignore(unix.SIGXFSZ)
	// Nobody may read standard error: that must stop nothing here.
	queue := logqueue.New(stderr, func(lines int) []byte {
		var line bytes.Buffer
		logger(o, &line).Warn("lines of the log were dropped: standard error took no more", "lines", lines)
		return line.Bytes()
	})
	defer queue.Close(flushLimit)
	stderr = queue
	o.config.Ready = ready
	o.config.Log = logger(o, stderr)
	if o.pidFile != "" {
		pid, err := pidfile.Create(o.pidFile)
		if err != nil {
			return fail(stderr, restart.ExitFailure, err)
		}
		defer pid.Remove()
	}
	status, err := restart.Run(o.config)
	if errors.Is(err, notify.ErrUnsupported) && !o.config.BestEffort {
		err = fmt.Errorf("%w; or run the service without zero downtime: --best-effort", err)
	}
	if err != nil {
		return fail(stderr, status, err)
	}
	return status
}

// flushLimit bounds how long the end waits for somebody to read what is yet to be logged.
const flushLimit = time.Second

// background starts huptime in the background and returns when the service is ready, or was not to be.
func background(args []string, stderr io.Writer) int {
	status, err := daemon.Start(args)
	if err != nil {
		if status == 0 {
			status = restart.ExitFailure
		}
		return fail(stderr, status, err)
	}
	return status
}

// fail prints the one line that a failure of huptime's own gets.
func fail(stderr io.Writer, status int, err error) int {
	fmt.Fprintf(stderr, "huptime: %v\n", err)
	return status
}

func logger(o options, stderr io.Writer) *slog.Logger {
	h := &slog.HandlerOptions{Level: slog.LevelInfo}
	if o.debug || o.config.Trace {
		h.Level = slog.LevelDebug
	}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, h))
	}
	return slog.New(slog.NewTextHandler(stderr, h))
}
