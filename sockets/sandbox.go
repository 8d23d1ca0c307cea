package sockets

import (
	"log/slog"

	"huptime/internal/proc"
	"huptime/internal/remote"
)

// sandboxed names in the log a process that has a seccomp filter of its own, if one who holds the sockets has: it is gated by
// its own calls alone, and none is put into its mouth. It returns the process, or 0.
func (t *Tracker) sandboxed(holders map[uint64][]proc.Holder) (pid int) {
	seen := make(map[int]bool)
	for _, list := range holders {
		for _, h := range list {
			if !seen[h.PID] && remote.Sandboxed(h.PID) {
				t.log.Info("a process has a seccomp filter of its own: it is gated by what it does itself, without remote calls",
					slog.Int("generation", t.generation), slog.Int("pid", h.PID))
				return h.PID
			}
			seen[h.PID] = true
		}
	}
	return 0
}
