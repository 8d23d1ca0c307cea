package sockets

import (
	"time"

	"github.com/huptime/huptime/internal/proc"
)

// An accepted connection may be in no process for a moment: between the kernel's half of an accept and the descriptor, in a message from one process
// to another (SCM_RIGHTS), or with a child that was born after the processes were listed, to which its parent has left it (as PostgreSQL does with
// each client). It may be the old generation's, so that is not stopped meanwhile.

const (
	transitLooks = 3
	// transitLimit is how long a connection may be in no process that can be seen: then it is in one that can't.
	transitLimit = time.Second
)

// inTransit looks for connections that nobody was found to have. Those that turn up in the generation are its own; those that nobody has count as its
// own until the next poll.
func (d *drain) inTransit(rest map[uint64]struct{}) {
	before := d.between
	d.between = nil
	theirs := func(pids []int) {
		found, _ := proc.Holders(pids, rest)
		for inode := range found {
			delete(rest, inode)
		}
	}
	theirs(d.newer())
	for look := 0; look < transitLooks && len(rest) > 0; look++ {
		// What a newer generation has served and closed meanwhile is none.
		if d.dump() != nil {
			return
		}
		open := make(map[uint64]struct{})
		for _, c := range d.conns {
			if _, ok := rest[uint64(c.Inode)]; ok {
				open[uint64(c.Inode)] = struct{}{}
			}
		}
		rest = open
		found, _ := proc.Holders(d.t.pids(), rest)
		for inode := range found {
			d.own[uint32(inode)] = struct{}{}
			delete(rest, inode)
		}
		theirs(d.newer())
	}
	if len(rest) == 0 {
		return
	}
	everybody, _ := proc.Processes() // an older generation may have it, or a process that is nobody's
	theirs(everybody)
	now := time.Now()
	for inode := range rest {
		since, known := before[inode]
		if !known {
			since = now
		}
		if d.between == nil {
			d.between = make(map[uint64]time.Time)
		}
		d.between[inode] = since
		if now.Sub(since) < transitLimit {
			d.own[uint32(inode)] = struct{}{}
		}
	}
}
