package sockets

import (
	"errors"
	"io/fs"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// failure is a kind of call that could not be looked at: for what reason, and which call.
type failure struct {
	call  notify.Call
	errno unix.Errno
}

// maxFailures bounds how many kinds are told apart.
const maxFailures = 64

// cannot logs why a call could not be looked at and runs untouched: once for each reason and generation, for a program
// may go on with what fails. A caller that is gone, a descriptor that is not open (EBADF is the kernel's to say), or a
// socket of another kind is no news.
func (t *Tracker) cannot(r *notify.Request, err error) {
	for _, none := range []error{notify.ErrTargetGone, sockaddr.ErrNotPreservable, unix.ESRCH, unix.EBADF, fs.ErrNotExist} {
		if errors.Is(err, none) {
			return
		}
	}
	f := failure{call: r.Call}
	errors.As(err, &f.errno)
	if t.failedBefore(f) {
		return
	}
	t.log.Warn("cannot look at a call, which runs untouched; others that fail so are not logged",
		slog.Int("generation", t.generation), slog.String("call", r.String()), slog.String("error", err.Error()))
}

func (t *Tracker) failedBefore(f failure) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.failures[f]; known || len(t.failures) >= maxFailures {
		return true
	}
	t.failures[f] = struct{}{}
	return false
}
