package sockets

import (
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// A server under load may never be seen to wait: its thread finds a client in the queue each time, and is seen to serve. But then it holds
// connections that came by the listening socket, which is evidence of another kind, and better.

// lookForAccepted notes on which of the sockets a process has accepted a connection that it still has. Connections are told by the local
// port, or the path, which they have from their listening socket.
func (t *Tracker) lookForAccepted(pids []int, inodes map[uint64]struct{}) error {
	diag, err := sockdiag.Open()
	if err != nil {
		return err
	}
	defer diag.Close()
	ports, names, err := diag.Listeners(inodes)
	if err != nil || len(ports)+len(names) == 0 {
		return err
	}
	asked := make(map[uint16]struct{})
	for port := range ports {
		asked[port] = struct{}{}
	}
	list, err := diag.TCPConnections(nil, asked)
	if err != nil {
		return err
	}
	tcp := len(list)
	for name := range names {
		if list, err = diag.UnixConnections(list, map[string]struct{}{name: {}}); err != nil {
			return err
		}
		t.noteAccepted(pids, list[tcp:], func(sockdiag.Connection) []uint64 { return []uint64{names[name]} })
		list = list[:tcp]
	}
	t.noteAccepted(pids, list, func(c sockdiag.Connection) []uint64 { return ports[c.Local.Port()] })
	return nil
}

// noteAccepted notes who holds the connections; of tells which listening sockets one may have come by.
func (t *Tracker) noteAccepted(pids []int, list []sockdiag.Connection, of func(sockdiag.Connection) []uint64) {
	accepted := make(map[uint64]struct{})
	for _, c := range list {
		if c.Inode != 0 {
			accepted[uint64(c.Inode)] = struct{}{}
		}
	}
	if len(accepted) == 0 {
		return
	}
	holders, _ := proc.Holders(pids, accepted)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range list {
		for _, h := range holders[uint64(c.Inode)] {
			for _, inode := range of(c) {
				t.nowWaited(inode, h.PID)
				t.firm[inode] = struct{}{}
			}
		}
	}
}
