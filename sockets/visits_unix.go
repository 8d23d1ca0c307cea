package sockets

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockdiag"
)

// maxUnixVisits bounds the descriptors that are kept for them.
const maxUnixVisits = 64

// unixVisits are the connections to unix sockets that this process has made, whatever generation accepts them. They have no
// port to be told by, only their other end; so that stays open, shut down in both directions, which is the same to the
// service as if it were closed, until the service has closed its own.
var ownUnixVisits unixVisits

type unixVisits struct {
	mu   sync.Mutex
	made []unixVisit
}

type unixVisit struct {
	fd    int // owned
	inode uint32
	name  string // of the socket that it was made to, as sock_diag shows it
	when  time.Time
}

// end ends a connection that was made to a unix socket, and takes ownership of its descriptor.
func (v *unixVisits) end(fd int, name string) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || unix.Shutdown(fd, unix.SHUT_RDWR) != nil {
		unix.Close(fd)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.made) >= maxUnixVisits {
		unix.Close(v.made[0].fd)
		v.made = slices.Delete(v.made, 0, 1)
	}
	v.made = append(v.made, unixVisit{fd: fd, inode: uint32(st.Ino), name: name, when: time.Now()})
}

// without is the list, of all connections to sockets of these names, without those that are visits. It closes what the
// service has closed: what is not in the list, though it was made so long ago that it was accepted.
func (v *unixVisits) without(list []sockdiag.Connection, names map[string]struct{}) []sockdiag.Connection {
	if len(names) == 0 {
		return list
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := make(map[uint32]bool, len(v.made))
	for _, one := range v.made {
		seen[one.inode] = false
	}
	list = slices.DeleteFunc(list, func(c sockdiag.Connection) bool {
		_, own := seen[c.Peer] // which only unix connections have, and no inode is 0
		if own {
			seen[c.Peer] = true
		}
		return own
	})
	v.made = slices.DeleteFunc(v.made, func(one unixVisit) bool {
		_, listed := names[one.name]
		over := listed && !seen[one.inode] && time.Since(one.when) > visitConnects
		if over {
			unix.Close(one.fd)
		}
		return over
	})
	return list
}
