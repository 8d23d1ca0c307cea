package sockets

import (
	"errors"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
)

// aliases is what else a process has of the socket that it is about to bind: other descriptors of it (a program may listen on a duplicate
// that it made before), and entries in epoll sets (a program may register a socket first and bind it then). All of
// it must follow when another socket is planted.
type aliases struct {
	r       *notify.Request
	pid     int
	inode   uint64 // of the socket
	own     int    // a duplicate of it, which keeps its entries alive until they have been moved
	numbers []proc.Holder
	entries []epollset.Entry
}

// looksForKin is how many descriptors of a process are looked at, over all its binds. Which descriptors and epoll sets there are only a walk through all of them
// tells, which for the thousandth socket takes far longer than the bind. What a program does with its first sockets it does
// with the others: where these had no aliases, the others are taken to have none.
const looksForKin = 8192

// seeks tells whether a socket of the process is worth a look.
func (t *Tracker) seeks(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.related[pid] || t.looked[pid] < looksForKin
}

// aliases looks for them. What other processes have of the socket, who got it before the bind, stays as it is. Where the socket can't be
// copied (pidfd_getfd is denied) only descriptors follow.
func (b *binding) aliases() *aliases {
	k := &aliases{r: b.r, own: b.own}
	var err error
	if k.pid, err = proc.Tgid(b.r.TID); err != nil {
		return k
	}
	if !b.t.seeks(k.pid) {
		return k
	}
	inode, ok, err := proc.DescriptorSocket(b.r.TID, b.number)
	if err != nil || !ok {
		return k
	}
	k.inode = inode
	descriptors, err := proc.Descriptors(k.pid)
	if err != nil {
		return k
	}
	for _, d := range descriptors {
		if other, ok := proc.SocketInode(d.Link); ok && other == inode && d.Number != b.number {
			k.numbers = append(k.numbers, proc.Holder{PID: k.pid, FD: d.Number})
		}
		if !proc.IsEpoll(d.Link) {
			continue
		}
		k.entries = append(k.entries, epollset.InSet(k.pid, d.Number, map[uint64]struct{}{inode: {}})...)
	}
	b.t.mu.Lock()
	defer b.t.mu.Unlock()
	b.t.looked[k.pid] += len(descriptors)
	if len(k.numbers)+len(k.entries) > 0 {
		b.t.related[k.pid] = true
	}
	return k
}

// follow plants the socket at the other numbers and registers it where the caller's own was. The caller still waits in its bind, which
// it would not find done otherwise.
func (k *aliases) follow(socket int) error {
	var failed error
	for _, h := range k.numbers {
		info, err := proc.ReadFDInfo(h.PID, h.FD)
		if err == nil {
			err = k.r.Plant(socket, h.FD, info.CloseOnExec())
		}
		failed = errors.Join(failed, err)
	}
	if len(k.entries) == 0 || k.own < 0 {
		return failed
	}
	successors := make(map[epollset.Entry]int)
	for _, e := range k.entries {
		successors[e] = socket
	}
	e := epollset.Edit{Entries: k.entries, Sockets: map[uint64]int{k.inode: k.own}, Successors: successors, Remove: true, CopyOf: fdpass.Copy}
	return errors.Join(failed, e.Apply())
}
