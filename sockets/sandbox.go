package sockets

import (
	"log/slog"
	"slices"

	"github.com/huptime/huptime/internal/remote"
)

// sandboxed names in the log a process that has a seccomp filter of its own, if one of pids has that had listening sockets when they were
// collected: by now it may have given them up. It is gated by its own calls alone, and none is put into its mouth. It returns the process, or 0.
func (t *Tracker) sandboxed(pids []int) (pid int) {
	holders := t.Holders() // sorted
	for _, pid := range pids {
		if _, ok := slices.BinarySearch(holders, pid); ok && remote.Sandboxed(pid) {
			t.log.Info("a process has a seccomp filter of its own: it is gated by what it does itself, without remote calls",
				slog.Int("generation", t.generation), slog.Int("pid", pid))
			return pid
		}
	}
	return 0
}
