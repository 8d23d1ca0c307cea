// Package proctree tells which generation each process of the service belongs to: those that its leader has forked, and
// those that were left behind and are the supervisor's children now (PR_SET_CHILD_SUBREAPER).
//
// A [Tree] has the state, under its own lock; its callers start and reap the processes. It has no goroutines but those that
// ask a process (see Resolve), which end by the limit of a freeze, and no descriptors.
package proctree
