package restart

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/remote"
)

// reap implements host. It runs on the machine's goroutine, and tells those who watch a child.
func (s *supervisor) reap() ([]reaped, bool) {
	list, ok := reapChildren()
	for i, child := range list {
		list[i].generation = s.census.Was(child.pid)
		if f := s.watched[child.pid]; f != nil {
			f(child.status)
		}
	}
	return list, ok
}

// reapChildren collects every child that has ended. It is the only place that waits
// for children: a second one would steal statuses from it. It declines while a
// process is frozen, because it would steal that one's stops.
func reapChildren() (list []reaped, ok bool) {
	ok = remote.TryReap(func() {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil || pid <= 0:
				return
			case status.Stopped():
				continue // a thread that is late: see remote.Tracer
			}
			list = append(list, reaped{pid: pid, status: Status(status)})
		}
	})
	return list, ok
}
