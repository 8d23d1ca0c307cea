package sockets

import (
	"context"
	"log/slog"

	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
)

// stop looks once more and sends the stop signal. Under level listeners all processes are frozen
// for that: nothing can be accepted, forked or handed over between the look and the signal.
func (d *drain) stop(ctx context.Context, signal func()) (stopped bool, err error) {
	if err := d.t.takeTurn(ctx); err != nil {
		return false, err
	}
	defer d.t.endTurn()
	if d.g.opened() {
		return false, ErrUngated
	}
	untilSettled(d.t.pids(), func(int) {})
	// What is not gated gets nothing more: nothing is to be held up there, and opaque processes can't be.
	if d.t.level != notify.LevelListeners || d.g == nil || d.g.empty() {
		return d.stopNow(signal)
	}
	err = remote.Trace(func(tr *remote.Tracer) (err error) {
		defer d.t.freezeAll(tr).thaw()
		stopped, err = d.stopNow(signal)
		return err
	})
	return stopped, err
}

func (d *drain) stopNow(signal func()) (stopped bool, err error) {
	if err := d.survey(); err != nil {
		return false, err
	}
	if !d.over() {
		return false, nil
	}
	if len(d.own) > 0 {
		d.t.log.Info("idle connections are closed", slog.Int("generation", d.t.generation), slog.Int("connections", len(d.own)))
	}
	signal()
	return true, nil
}
