package sockets

import (
	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// plantRenamed answers a rename by which a starting generation puts a socket of its own, bound under a name that is
// another one each time, onto the path of a preserved one: it gets the preserved socket in place of its own, whose file
// is removed. It may have listened on it already, or do so next. Nobody can have found the other name. It tells whether
// it did so.
func (t *Tracker) plantRenamed(r *notify.Request, k *guardedPath, from *paths.Found) bool {
	inode, ok := t.boundAt(from.Place)
	if !ok || inode == k.socket.Inode {
		return false
	}
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return false
	}
	holders, _ := proc.Holders([]int{pid}, map[uint64]struct{}{inode: {}})
	if len(holders[inode]) == 0 {
		return false // another process has it: that one can't be given anything now
	}
	number := holders[inode][0].FD
	own, err := fdpass.CopySocket(pid, number)
	if err != nil {
		return false
	}
	b := &binding{t: t, r: r, number: number, own: own, key: k.socket.Key}
	defer b.close()
	flags, err := unix.FcntlInt(uintptr(own), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	kind, err := unix.GetsockoptInt(own, unix.SOL_SOCKET, unix.SO_TYPE)
	info, errInfo := proc.ReadFDInfo(pid, number)
	if err != nil || errInfo != nil || kind != k.socket.Key.Type || !r.Valid() {
		return false
	}
	b.nonblock, b.cloexec = flags&unix.O_NONBLOCK != 0, info.CloseOnExec()
	s, err := t.preserved.claim(k.socket.Key, t.holds, b.plant)
	if err != nil || s == nil {
		return false
	}
	t.mu.Lock()
	_, listened := t.listening[inode]
	_, datagram := t.datagrams[inode]
	t.mu.Unlock()
	t.forget(inode)
	if found, err := k.socket.file.found.Clone(); err == nil {
		t.binds(s.Inode, boundName{sockaddr.Address{Family: unix.AF_UNIX, Name: s.Path}, found})
	}
	if listened || datagram {
		t.note(r, s.Inode, true)
	}
	if datagram {
		t.mu.Lock()
		t.datagrams[s.Inode] = struct{}{}
		t.mu.Unlock()
	}
	t.planted(b, s)
	_ = from.Remove() // or it is left: an old name that nobody uses
	return true
}

// boundAt finds the socket that this generation has bound at a place.
func (t *Tracker) boundAt(place paths.Place) (inode uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode, b := range t.bound {
		if b.found != nil && b.found.Place == place {
			return inode, true
		}
	}
	return 0, false
}
