package sockets

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
)

// TestFaultD9NextHolder: one who has a socket is gone, by a way that only a remote call finds out (pidfd_getfd is denied), can't be reached, or has something
// else at the number by now: the next one is asked. Only where nobody gives it that has it, it is an error.
func TestFaultD9NextHolder(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		g := launch(t, 1, level, nil, NewKnocks(), 1)
		s := g.listenOn(t, loopback, 0)
		w := g.worker(t, s.fd)
		inode := g.inode(t, s.fd)
		own, err := ownNamespace()
		if err != nil {
			t.Fatal(err)
		}
		// As copied gives it in Docker's profile.
		errFirst := fmt.Errorf("cannot copy: %w", errors.Join(unix.EPERM, remote.ErrGone))
		for what, c := range map[string]struct {
			first, second error
			want          error
		}{
			"gone":             {errFirst, nil, nil},
			"denied":           {errors.Join(unix.EPERM, remote.ErrDenied), nil, nil},
			"sandboxed":        {errors.Join(unix.EPERM, remote.ErrSandboxed), nil, nil},
			"slow":             {errors.Join(unix.EPERM, remote.ErrSlow), nil, nil},
			"all gone":         {errFirst, unix.ESRCH, errGone},
			"gone, then slow":  {errFirst, remote.ErrSlow, remote.ErrSlow},
			"slow, then gone":  {remote.ErrSlow, errFirst, remote.ErrSlow},
			"closed, then not": {unix.EBADF, nil, nil},
		} {
			copyOf := func(pid, fd int, what fdpass.Kind) (int, error) {
				if err := map[int]error{g.PID: c.first, w.PID: c.second}[pid]; err != nil {
					return -1, err
				}
				return fdpass.Copy(pid, fd, what)
			}
			got, err := g.tracker.collectBy(copyOf, []proc.Holder{{PID: g.PID, FD: s.fd}, {PID: w.PID, FD: s.fd}}, inode, own)
			if !errors.Is(err, c.want) || c.want == nil && got.Inode != inode {
				t.Errorf("%s: %v, want %v", what, err, c.want)
			}
			if err == nil {
				got.close()
			}
		}
		// Whom it was left to, of whom nobody knew.
		found, err := g.tracker.collectFrom([]proc.Holder{{PID: 1 << 22, FD: s.fd}}, inode, own)
		if err != nil {
			t.Fatal(err)
		}
		found.close()
	})
}
