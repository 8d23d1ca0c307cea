package sockets

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/internal/permission"
	"github.com/huptime/huptime/notify"
)

// A call that is answered in the kernel's stead must not give its caller what the kernel would have refused.

// errForbidden: the kernel would not let the caller have this address.
var errForbidden = errors.New("the kernel forbids it to the caller")

// permitted is nil where the kernel would let the caller bind the address of a preserved socket. The error matches errForbidden. A
// standing socket is everybody's in the generation: whoever started huptime has opened it for the service, which often could not.
// A binding without an address is one that the kernel has let run already (bindingOf, rejoin): by its listen the caller may have given up what it
// had for its bind.
func (b *binding) permitted(s *Socket) error {
	if s.standing {
		return nil
	}
	c, err := permission.Of(b.r.TID)
	if err != nil {
		return nil // it is gone, which the plant will find
	}
	switch {
	case b.address.Family == unix.AF_VSOCK:
		err = c.MachinePort(b.address.Machine.Port)
	case b.address.Family == unix.AF_UNIX && b.address.IsPath():
		var found *paths.Found
		if found, err = paths.OfThreadChecked(b.r.TID, unix.AT_FDCWD, b.address.Name, c.Search); err == nil {
			err = found.Ask(func(dir int, _ string) error { return c.Create(dir) })
			found.Close()
		}
	case b.address.Family == unix.AF_INET || b.address.Family == unix.AF_INET6:
		err = c.Port(b.address.Port())
	}
	if refusal(err) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", s, errForbidden, err)
}

// refused notes why a bind of a preserved address runs, and fails: its restart will fail with it.
func (t *Tracker) refused(r *notify.Request, err error) {
	t.log.Info("a bind is not answered: the kernel forbids it", slog.Int("generation", t.generation), slog.String("call", r.String()), slog.String("error", err.Error()))
	t.mu.Lock()
	t.obstacle = "it could not bind " + err.Error()
	t.mu.Unlock()
}

// refusal is the errno by which the kernel says that something is not permitted, or 0.
func refusal(err error) unix.Errno {
	for _, errno := range []unix.Errno{unix.EACCES, unix.EPERM} {
		if errors.Is(err, errno) {
			return errno
		}
	}
	return 0
}

// removal is what the kernel would refuse the caller the removal of a name with, or 0.
func (t *Tracker) removal(r *notify.Request, dirfd int, path string) unix.Errno {
	c, err := permission.Of(r.TID)
	if err != nil {
		return 0
	}
	found, err := paths.OfThreadChecked(r.TID, dirfd, path, c.Search)
	if err == nil {
		defer found.Close()
		err = found.Ask(c.Remove)
	}
	if !r.Valid() {
		return 0
	}
	errno := refusal(err)
	if errno != 0 {
		t.log.Debug("a kept path may not be changed by who asks", slog.Int("generation", t.generation),
			slog.String("call", r.Call.String()), slog.Int("thread", r.TID), slog.String("answer", unix.ErrnoName(errno)))
	}
	return errno
}

// renaming is what the kernel would refuse a rename with, or 0.
func (t *Tracker) renaming(r *notify.Request) unix.Errno {
	from, errFrom := r.ReadPath(r.Args[1])
	onto, errOnto := r.ReadPath(r.Args[3])
	if errFrom != nil || errOnto != nil {
		return 0
	}
	if errno := t.removal(r, r.Int(0), from); errno != 0 {
		return errno
	}
	return t.removal(r, r.Int(2), onto) // of a name that is not there: whether one may be made
}
