package restart

import (
	"errors"
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

func withoutHelp(c *Config) { execMode(c); c.plain = true }

// Stop, then start: nothing is gated, nothing drained, and a start that fails is tried again.
func TestWithoutHelp(t *testing.T) {
	for name, drive := range map[string]func(w *world){
		"restart": func(w *world) {
			w.ready(1)
			w.hup()
			w.did(1, "collect", "SIGTERM")
			w.says("plain restart")
			w.count(1)
			w.die(1, killedBy(syscall.SIGTERM))
			w.count(2)
			w.ready(2)
			w.says("restart finished")
			w.die(2, exited(3))
			w.exits(3)
		},
		"does not care for its stop signal": func(w *world) {
			w.ready(1)
			w.hup()
			w.wait(time.Minute)
			w.did(1, "collect", "SIGTERM", "kill")
			w.die(1, killedBy(syscall.SIGKILL))
			w.ready(2)
		},
		"does not start": func(w *world) {
			w.ready(1)
			w.hup()
			w.die(1, killedBy(syscall.SIGTERM))
			w.die(2, exited(1))
			w.wait(shortestPause)
			w.count(3)
			w.ready(3)
			w.says("restart finished")
		},
		"is to end meanwhile": func(w *world) {
			w.ready(1)
			w.hup()
			w.end(syscall.SIGTERM)
			w.die(1, exited(0))
			w.exits(0)
		},
	} {
		t.Run(name, func(t *testing.T) { runWith(t, withoutHelp, drive) })
	}
}

func TestGoPlain(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	busy := &notify.LaunchError{Op: "install the filter for", Command: "x", Errno: unix.EBUSY}
	cfg := Config{Log: quiet}
	if err := goPlain(&cfg, busy); err != nil || !cfg.plain || cfg.Mode != Exec {
		t.Errorf("%v, %+v", err, cfg)
	}
	cfg = Config{Log: quiet}
	if err := goPlain(&cfg, errors.New("no memory")); err == nil || cfg.plain {
		t.Errorf("another error: %v, %+v", err, cfg)
	}
	cfg = Config{Log: quiet, Copies: 2}
	if err := goPlain(&cfg, busy); !errors.Is(err, notify.ErrUnsupported) || cfg.plain {
		t.Errorf("copies: %v, %+v", err, cfg)
	}
}
