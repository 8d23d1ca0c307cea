package sockets

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proctree"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
)

// freezeLimit bounds how long a process may take to stop.
const freezeLimit = 2 * time.Second

// Knocks lets the supervisor talk to the listener of a process by making the
// process knock: a remote listen(-1) is notified like any other, and the
// answer is what was agreed on before. One Knocks serves all generations: on
// which listener a knock arrives says whose the process is, whatever it did to
// its session, its parents or its environment.
type Knocks struct {
	mu       sync.Mutex
	expected map[int]knock // by thread id

	ports reuseports

	// opaqueOnce is for the log: what is out of reach in one generation is in the next.
	opaqueOnce sync.Once
	// unexchangeable: a generation could not be given the preserved sockets in exchange for its own; see TakeQueues.
	unexchangeable atomic.Bool
	// assumedOnce likewise.
	assumedOnce sync.Once
	// hearing says that the service needs its SIGHUP, and could not be given it late: see hangups.
	hearing atomic.Bool
}

type knock func(generation int, r *notify.Request) notify.Reply

// NewKnocks makes an empty one.
func NewKnocks() *Knocks { return &Knocks{expected: make(map[int]knock)} }

// answered answers a listen that is a knock.
func (k *Knocks) answered(generation int, r *notify.Request) (notify.Reply, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	answer, ok := k.expected[r.TID]
	if !ok || r.FD() != -1 {
		return notify.Reply{}, false
	}
	return answer(generation, r), true
}

// knock makes the frozen process knock, and returns what the answer made the call return.
func (k *Knocks) knock(f *remote.Frozen, answer knock) (int64, error) {
	tid, err := f.Caller()
	if err != nil {
		return 0, err
	}
	k.mu.Lock()
	k.expected[tid] = answer
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.expected, tid)
		k.mu.Unlock()
	}()
	return f.Call(abi.Listen, ^uintptr(0), 0)
}

// Generation finds out which generation a process is of. A process of none is [proctree.ErrNoGeneration].
func (k *Knocks) Generation(pid int) (int, error) {
	found := 0
	err := remote.With(pid, freezeLimit, func(f *remote.Frozen) error {
		_, err := k.knock(f, func(generation int, _ *notify.Request) notify.Reply {
			found = generation
			return notify.Return(0)
		})
		return err
	})
	// The kernel's own answer to listen(-1) comes to those whom no filter asks about it. What else may come (EPERM, ENOSYS) is some
	// other filter's.
	if found == 0 && (err == nil || errors.Is(err, unix.EBADF)) {
		err = fmt.Errorf("process %d: %w", pid, proctree.ErrNoGeneration)
	}
	return found, err
}

// forget takes a generation that is over out of the SO_REUSEPORT groups.
func (k *Knocks) forget(t *Tracker) {
	if k != nil {
		k.ports.forget(t)
	}
}
