package remote

import (
	"errors"
	"os"
	"sync"

	"github.com/huptime/huptime/internal/proc"
)

// ErrSandboxed says that every thread of the process runs under a seccomp filter of the program's own: a call that it does not make by
// itself may be one that it is killed for.
var ErrSandboxed = errors.New("it has a seccomp filter of its own, under which it is made to run no call")

// foreseen is how many seccomp filters a process has that has made none itself: those that this process has, for it may run in a container, and
// the one that a launcher installs.
var foreseen = sync.OnceValue(func() int {
	own, err := proc.Filters(os.Getpid())
	if err != nil {
		own = 0
	}
	return own + 1
})

// restricted tells whether a thread has a filter of the program's own. Each thread may have others (seccomp(2), SECCOMP_FILTER_FLAG_TSYNC).
func restricted(tid int) (bool, error) {
	n, err := proc.Filters(tid)
	return n > foreseen(), err
}

// Sandboxed tells whether no thread of the process can be made to run a call, because of its own seccomp filters. The process need not be
// frozen, and no right to trace it is needed; one that is gone is not sandboxed.
func Sandboxed(pid int) bool {
	// As a rule the first thread tells.
	if r, err := restricted(pid); err != nil || !r {
		return false
	}
	tids, err := proc.Threads(pid)
	if err != nil {
		return false
	}
	for _, tid := range tids {
		if r, err := restricted(tid); err == nil && !r {
			return false
		}
	}
	return true
}

// unrestricted picks a thread that can be made to run calls.
func (f *Frozen) unrestricted() (*thread, error) {
	gone := 0
	for _, t := range f.threads {
		switch r, err := restricted(t.tid); {
		case errors.Is(err, os.ErrNotExist):
			gone++
		case err != nil:
			return nil, err
		case !r:
			return t, nil
		}
	}
	if gone == len(f.threads) {
		return nil, ErrGone
	}
	return nil, ErrSandboxed
}
