package sockets

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
)

// helping is the installation of a process's action that runs, and those of its threads that wait for it.
type helping struct {
	held map[int]*notify.Request // by thread
}

// help installs the action of a process and lets those go on that were held. tid is the thread that has called first.
func (h *hangups) help(of image, running *helping, tid int, want action) {
	err := h.install(of, running, tid, want)
	if err == nil {
		untilSettled([]int{of.pid}, func(tid int) { h.letStop(running, tid) })
	}
	h.mu.Lock()
	delete(h.helping, of)
	level := slog.LevelInfo
	if err == nil {
		h.settle(of)
		if h.named {
			level = slog.LevelDebug // where one does it all of its kind do
		}
		h.named = true
	}
	held := running.held
	h.mu.Unlock()
	if err == nil {
		h.log.Log(context.Background(), level,
			"a process sends SIGHUP to itself: its handler was installed, and it is no longer deaf to SIGHUP",
			"generation", h.generation, "pid", of.pid)
	} else if !errors.Is(err, remote.ErrGone) {
		h.giveUp(of, err)
	}
	for _, r := range held {
		r.Answer(notify.Continue())
	}
}

// install makes the thread that sends the signal install the action before it does so. The others run on: one that
// the signal is to wake would miss it while it is on its way back into the call that a freeze took it out of.
func (h *hangups) install(of image, running *helping, tid int, want action) error {
	return remote.Trace(func(tr *remote.Tracer) error {
		f, err := tr.FreezeThread(of.pid, tid, freezeLimit, func(tid int) { h.letStop(running, tid) })
		if err != nil {
			return err
		}
		defer f.Thaw()
		return h.installFrozen(f, tid, want)
	})
}

func (h *hangups) installFrozen(f *remote.Frozen, tid int, want action) error {
	code, err := f.ABI()
	if err != nil {
		return err
	}
	if code != want.abi {
		return remote.ErrForeign
	}
	h.mu.Lock()
	h.calling[tid] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.calling, tid)
		h.mu.Unlock()
	}()
	const setSize = 8 // of a signal mask, in bytes
	return f.WithSpace(len(want.bytes), func(uint64) []byte { return want.bytes }, func(addr uint64) error {
		_, err := f.Call(abi.Sigaction, uintptr(unix.SIGHUP), uintptr(addr), 0, setSize)
		return err
	})
}

// letStop answers a thread that is held here and was asked to stop: it makes its call anew when it is let go.
func (h *hangups) letStop(running *helping, tid int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := running.held[tid]; r != nil && remote.Stopping(tid) {
		delete(running.held, tid)
		r.Answer(notify.Anew())
	}
}
