package sockets

import (
	"context"
	"errors"
	"log/slog"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/sockets/epollset"
)

// exchangeAll exchanges sockets in all processes of the generation, until a look finds none that goes. exchanged is
// called while the process is frozen yet; nil where nothing is to be done then.
func (t *Tracker) exchangeAll(ctx context.Context, tr trade, inodes map[uint64]struct{}, exchanged func(*remote.Frozen, []held)) error {
	if len(inodes) == 0 {
		return nil
	}
	// Each look finds what was forked during the one before, which is nothing, or somebody who forks all the time.
	const looks = 10
	var failed error
	given := make(map[int]bool)
	for range looks {
		found := 0
		for _, pid := range t.pids() {
			if ctx.Err() != nil {
				return errors.Join(failed, ctx.Err())
			}
			if given[pid] {
				continue
			}
			concerned, err := concerns(pid, inodes)
			if err != nil || !concerned {
				continue // what can't be looked into was not gated either
			}
			found++
			switch err := t.exchangeIn(tr, pid, inodes, exchanged); {
			case err == nil, errors.Is(err, remote.ErrGone):
			default:
				given[pid] = true // there is no other way to it
				t.log.Warn("a process can't be given its sockets back", slog.Int("generation", t.generation),
					slog.Int("pid", pid), slog.String("error", err.Error()))
				failed = errors.Join(failed, err)
			}
		}
		if found == 0 {
			break
		}
	}
	return failed
}

// exchangeIn exchanges them in one process, in one freeze.
func (t *Tracker) exchangeIn(tr trade, pid int, inodes map[uint64]struct{}, exchanged func(*remote.Frozen, []held)) error {
	return remote.With(pid, freezeLimit, func(f *remote.Frozen) error { return t.exchangeFrozen(tr, f, pid, inodes, exchanged) })
}

func (t *Tracker) exchangeFrozen(tr trade, f *remote.Frozen, pid int, inodes map[uint64]struct{}, exchanged func(*remote.Frozen, []held)) error {
	if _, err := f.Caller(); err != nil {
		return err // before anything is changed
	}
	descriptors, err := proc.Descriptors(pid)
	if err != nil {
		return err
	}
	there := make(map[int]uint64)
	list, err := holdings(pid, descriptors, func(inode uint64, d proc.Descriptor) bool {
		_, goes := inodes[inode]
		if goes {
			there[d.Number] = inode
		}
		return goes
	})
	if err != nil {
		return err
	}
	var entries []epollset.Entry
	for _, e := range epollset.Entries([]int{pid}, inodes) {
		if there[e.Target] == e.Inode { // else the program has closed it, and what it left ends with the placeholder
			e.Events = e.Requested()
			entries = append(entries, e)
		}
	}
	if err := t.exchange(tr, f, pid, entries, list); err != nil {
		return err
	}
	if exchanged != nil {
		exchanged(f, list)
	}
	return nil
}
