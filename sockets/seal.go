package sockets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/waitstate"
)

// ErrOpaque says that processes can't be made to stop accepting: they may not be looked into, or
// accept by a way that can't be seen. Only their stop signal ends that.
var ErrOpaque = errors.New("processes can't be made to stop accepting")

// seal makes the processes stop accepting by remote calls (level listeners).
// The error matches ErrOpaque for those that can't be sealed; the others are.
func (t *Tracker) seal(ctx context.Context, g *gate, pids []int) error {
	var failed error
	for _, pid := range pids {
		if ctx.Err() != nil {
			return errors.Join(failed, ctx.Err())
		}
		err := t.sealProcess(g, pid)
		switch {
		case err == nil || errors.Is(err, remote.ErrGone):
		case errors.Is(err, remote.ErrDenied):
			t.knocks.opaqueOnce.Do(func() {
				t.log.Warn("a process may not be looked into: it is retired by its stop signal alone; give huptime CAP_SYS_PTRACE",
					slog.Int("generation", t.generation), slog.Int("pid", pid))
			})
			failed = errors.Join(failed, fmt.Errorf("%w: process %d: %w", ErrOpaque, pid, err))
		case errors.Is(err, remote.ErrForeign), errors.Is(err, remote.ErrSlow), errors.Is(err, remote.ErrSandboxed), errors.Is(err, errURing):
			failed = errors.Join(failed, t.cannotGate(pid, err))
		default:
			failed = errors.Join(failed, err)
		}
	}
	if errors.Is(failed, ErrOpaque) {
		untilSettled(pids, func(int) {}) // the stop signal is next
	}
	return failed
}

// errURing: what an io_uring accepts passes by every system call that could be notified or seen.
var errURing = errors.New("it has an io_uring, whose accepts can't be seen")

func hasURing(descriptors []proc.Descriptor) bool {
	return slices.ContainsFunc(descriptors, func(d proc.Descriptor) bool { return proc.IsURing(d.Link) })
}

// cannotGate names the process in the log and returns an error that matches ErrOpaque.
func (t *Tracker) cannotGate(pid int, err error) error {
	t.log.Warn("a process can't be made to stop accepting: it is retired by its stop signal alone",
		slog.Int("generation", t.generation), slog.Int("pid", pid), slog.String("error", err.Error()))
	return fmt.Errorf("%w: %w", ErrOpaque, err)
}

// sealProcess seals one process, in one freeze.
func (t *Tracker) sealProcess(g *gate, pid int) error {
	if concerned, err := concerns(pid, g.streams()); err != nil || !concerned {
		return err
	}
	return remote.With(pid, freezeLimit, func(f *remote.Frozen) error { return t.sealFrozen(g, f, pid) })
}

func (t *Tracker) sealFrozen(g *gate, f *remote.Frozen, pid int) error {
	if _, err := f.Caller(); err != nil {
		return err // before anything is changed
	}
	// Read again: now nothing changes any more.
	descriptors, err := proc.Descriptors(pid)
	if err != nil {
		return err
	}
	if hasURing(descriptors) {
		return fmt.Errorf("process %d: %w", pid, errURing)
	}
	entries := epollset.Entries([]int{pid}, g.streams())
	list, err := g.holdings(pid, descriptors, func(s *Socket, _ proc.Descriptor) bool { return !s.Key.IsDatagram() })
	if err != nil {
		return err
	}
	if err := t.exchange(t.gateTrade(g), f, pid, entries, list); err != nil {
		return err
	}
	for _, h := range list {
		d := g.placeholderOf(h.inode)
		if d == nil {
			return remote.ErrGone
		}
		if d.nonblock || t.onlyAccepts(h.inode) {
			continue
		}
		for range mayAccept(f) {
			if err := d.phantom(); err != nil {
				t.log.Debug("no phantom for a blocking accept", slog.Int("pid", pid), slog.String("error", err.Error()))
			}
		}
	}
	return nil
}

// copyOfFrozen copies descriptors while pid is frozen.
func (t *Tracker) copyOfFrozen(f *remote.Frozen, pid int) fdpass.Copier {
	return func(of, fd int, what fdpass.Kind) (int, error) {
		return copied(of, fd, what, func() (int, error) {
			if of == pid {
				return t.knocks.fetchFrom(f, pid, fd, what)
			}
			return t.knocks.fetch(of, fd, what)
		})
	}
}

// concerns tells whether a process has anything to do with the sockets; most of a big
// service's processes may not.
func concerns(pid int, inodes map[uint64]struct{}) (bool, error) {
	holders, opaque := proc.Holders([]int{pid}, inodes)
	if len(opaque) > 0 {
		return false, remote.ErrDenied
	}
	return len(holders) > 0 || len(epollset.Entries([]int{pid}, inodes)) > 0, nil
}

// mayAccept counts the threads that may be between "readable" and the return of their accept, which
// on an empty placeholder would never come: those inside accept, and one for all that are busy
// elsewhere. Threads that wait in poll, select or epoll wait anew, on the placeholder.
func mayAccept(f *remote.Frozen) int {
	inside, busy := inAccept(f)
	if busy {
		inside++
	}
	return inside
}

// inAccept counts the threads inside accept, and tells whether others do anything but wait.
func inAccept(f *remote.Frozen) (inside int, busy bool) {
	for _, tid := range f.Threads() {
		call, ok := f.Interrupted(tid)
		switch {
		case ok && call == abi.Accept:
			inside++
		case !ok || !waitstate.ForDescriptors(call):
			busy = true
		}
	}
	return inside, busy
}

// reregister adds the placeholders to the epoll sets in place of the sockets, so that the
// program finds what it expects there when it changes or removes its entry.
func (t *Tracker) reregister(f *remote.Frozen, entries []epollset.Entry, swapped map[int]bool) error {
	code, err := f.ABI()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !swapped[e.Target] {
			continue
		}
		event := code.EpollEvent(e.Events, e.Data)
		err := f.WithSpace(len(event), func(uint64) []byte { return event }, func(addr uint64) error {
			_, err := f.Call(abi.EpollCtl, uintptr(e.Set), unix.EPOLL_CTL_ADD, uintptr(e.Target), uintptr(addr))
			return err
		})
		if err != nil && err != unix.EEXIST {
			// The program does without: it is gated all the same.
			t.log.Debug("cannot put a placeholder into an epoll set", slog.Int("pid", e.PID), slog.Int("descriptor", e.Target), slog.String("error", err.Error()))
		}
	}
	return nil
}

// frozen are processes that are frozen together.
type frozen []*remote.Frozen

func (f frozen) thaw() {
	for _, p := range f {
		p.Thaw()
	}
}

// freezeAll freezes every process of the generation, also those that are forked meanwhile.
// Those that can't be are left out.
func (t *Tracker) freezeAll(tr *remote.Tracer) frozen {
	var all frozen
	seen := make(map[int]bool)
	for {
		fresh := 0
		for _, pid := range t.pids() {
			if seen[pid] {
				continue
			}
			seen[pid] = true
			fresh++
			f, err := tr.Freeze(pid, freezeLimit)
			if err == nil {
				all = append(all, f)
			} else if !errors.Is(err, os.ErrNotExist) {
				t.log.Debug("cannot freeze a process before its stop", slog.Int("pid", pid), slog.String("error", err.Error()))
			}
		}
		if fresh == 0 {
			return all
		}
	}
}
