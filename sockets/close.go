package sockets

import (
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// The level calls: a notified close says that a descriptor is about to be closed. It has not happened yet when it is notified, and need
// not be the last descriptor of its socket. So it is a reason to look, never evidence.

// closing is a descriptor of a listening socket that a process is about to close.
type closing struct {
	holder  proc.Holder
	inode   uint64
	address string // for the log; "" where it can't be told
	asked   time.Time
}

// How often and for how long a descriptor is looked at that is about to be closed. The call runs some microseconds after the answer, or, where a
// signal came first, not at all (EINTR): then it is made again, and notified again.
const (
	shortestCloseLook = 500 * time.Microsecond
	longestCloseLook  = 50 * time.Millisecond
	closeLimit        = time.Second
	// maxClosing bounds the record; what does not fit is found when the sockets are collected, as at the other levels.
	maxClosing = 1024
)

// close answers close(fd), always by letting it run. A listening socket that may be gone by it is looked for (WatchCloses), and where the
// generation is gated, the end of one of its connections makes the drain look at once.
func (t *Tracker) close(r *notify.Request) notify.Reply {
	inode, ok, err := proc.DescriptorSocket(r.TID, r.FD())
	if err == nil && !ok || r.FD() < 0 {
		return notify.Continue()
	}
	t.mu.Lock()
	_, listens := t.listening[inode]
	_, counts := t.outstanding[uint32(inode)]
	ends := t.gate != nil && (counts || err != nil) // of a process that can't be looked into, any may be one
	t.mu.Unlock()
	if ends {
		ping(t.ended)
	}
	if err != nil || !listens || t.sharing != nil && t.sharing.own {
		return notify.Continue() // the sockets of a copy that ends wait for it to be started again (patience)
	}
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return notify.Continue()
	}
	address := addressToLog(pid, r.FD())
	if !r.Valid() {
		return notify.Continue()
	}
	t.mu.Lock()
	if len(t.closing) < maxClosing {
		t.closing = append(t.closing, closing{proc.Holder{PID: pid, FD: r.FD()}, inode, address, time.Now()})
	}
	t.mu.Unlock()
	ping(t.toLook)
	return notify.Continue()
}

// addressToLog tells the address of a process's socket, for the log.
func addressToLog(pid, fd int) string {
	own, err := fdpass.CopySocket(pid, fd)
	if err != nil {
		return ""
	}
	defer unix.Close(own)
	name, err := unix.Getsockname(own)
	if err != nil {
		return ""
	}
	if unixName, ok := name.(*unix.SockaddrUnix); ok {
		return sockaddr.UnixString(unixName.Name)
	}
	key, err := sockaddr.Describe(own, pid)
	address, ok := sockaddr.Of(name)
	if err != nil || !ok {
		return ""
	}
	return key.At(address).String()
}

// WatchCloses lets go, within milliseconds, what the service closes, until ended is closed. It is for the level calls, at which a
// close is notified.
func (t *Tracker) WatchCloses(ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-t.toLook:
		}
		for pause, left := shortestCloseLook, true; left; pause = min(2*pause, longestCloseLook) {
			select {
			case <-ended:
				return
			case <-time.After(pause):
			}
			left = t.lookForClosed()
		}
	}
}

// lookForClosed tells whether some are left to be looked at again.
func (t *Tracker) lookForClosed() bool {
	t.mu.Lock()
	list := t.closing
	t.closing = nil
	t.mu.Unlock()
	var left []closing
	gone, address := make(map[uint64]struct{}), make(map[uint64]string)
	for _, c := range list {
		switch {
		case !stillHolds(c.holder, c.inode):
			gone[c.inode], address[c.inode] = struct{}{}, c.address
		case time.Since(c.asked) < closeLimit:
			left = append(left, c)
		}
	}
	if len(gone) > 0 {
		pids := t.pids()
		holders, opaque := proc.Holders(pids, gone)
		// Where nobody lives any more this is the end of the generation, for which sockets are kept.
		if len(opaque) == 0 && len(pids) > 0 {
			for inode := range gone {
				if len(holders[inode]) == 0 {
					t.letGo(inode, address[inode])
				}
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = append(left, t.closing...)
	return len(t.closing) > 0
}

// letGo gives up a listening socket that no process of the generation has any more: what is kept of it, and what is known of it. A standing one is
// huptime's own and stays open; it is the service's no more, until it binds or starts anew.
func (t *Tracker) letGo(inode uint64, address string) {
	t.keeping.Lock()
	if k := t.kept[inode]; k != nil {
		k.socket.close()
		delete(t.kept, inode)
	}
	t.keeping.Unlock()
	if s := t.preserved.unclaimStanding(inode); s != nil {
		t.forget(inode)
		t.log.Info("the service has closed a socket of huptime's: clients wait until it binds it again", slog.Int("generation", t.generation), slog.String("address", s.String()))
		return
	}
	if inFlight(inode) {
		return // on its way from one process to another, or held for a successor
	}
	t.forget(inode)
	t.log.Info("the service has closed a listening socket", slog.Int("generation", t.generation), slog.String("address", address))
}

// unclaimStanding takes back the claim to a standing socket, and returns it; nil where it is none.
func (p *Preserved) unclaimStanding(inode uint64) *Socket {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.sockets, func(s *Socket) bool { return s.standing && s.Inode == inode })
	if i < 0 {
		return nil
	}
	p.sockets[i].claimed, p.sockets[i].passed = false, false
	return p.sockets[i]
}

// inFlight tells whether a socket that no process has exists all the same: in a message (SCM_RIGHTS in unix(7)), or as a duplicate of the
// supervisor's. What the kernel does not list (vsock, multipath TCP) counts as gone.
func inFlight(inode uint64) bool {
	diag, err := sockdiag.Open()
	if err != nil {
		return true // not known: as at the other levels
	}
	defer diag.Close()
	if _, err := diag.UnixSocketOf(inode); err == nil {
		return true
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for protocol, states := range map[uint8]uint32{unix.IPPROTO_TCP: 1 << sockdiag.TCPListen, unix.IPPROTO_UDP: 1<<sockdiag.TCPClose | 1<<sockdiag.TCPEstablished} {
			list, err := diag.InetSockets(family, protocol, states, 0)
			if err == nil && slices.ContainsFunc(list, func(s sockdiag.InetSocket) bool { return uint64(s.Inode) == inode }) {
				return true
			}
		}
	}
	return false
}
