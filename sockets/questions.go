package sockets

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// A program that can't answer a datagram by itself asks others, and mostly by a socket that it opens for the question:
// one with a peer, or with a port of the kernel's choice. While such a socket is open there is an answer to come.
// Programs have others that look the same and stay, for their logs, say, or for all their questions: what was there
// before the restart began is waited for, too, but no longer than quiescenceLimit.

// noteInquiries notes which sockets there are before a restart.
func (t *Tracker) noteInquiries(pids []int) {
	t.mu.Lock()
	none := len(t.datagrams) == 0
	t.inquiries = nil
	t.mu.Unlock()
	if none {
		return
	}
	diag, err := sockdiag.Open()
	if err != nil {
		return
	}
	defer diag.Close()
	inquiries := t.questions(diag, pids, nil, true)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inquiries = inquiries
}

// questions lists the UDP sockets, by inode, that processes have opened since the restart began and by which they may
// have asked for something. With old it lists also those that were there before: they are waited for no longer than
// quiescenceLimit. It is empty where the kernel or the processes don't tell.
func (t *Tracker) questions(diag *sockdiag.Conn, pids []int, g *gate, old bool) map[uint64]struct{} {
	low, high := ephemeralPorts()
	open := make(map[uint64]struct{})
	var peered []sockdiag.InetSocket
	served := make(map[uint16]struct{}) // ports that others ask by
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := diag.InetSockets(family, unix.IPPROTO_UDP, 1<<sockdiag.TCPEstablished|1<<sockdiag.TCPClose, 0)
		if err != nil {
			return nil
		}
		for _, s := range list {
			inode, port := uint64(s.Inode), s.Local.Port()
			if t.listensOn(inode) || g.has(inode) {
				served[port] = struct{}{} // whatever its port is, others ask by it
				continue
			}
			if inode != 0 && (s.State == sockdiag.TCPEstablished || port >= low && port <= high) {
				open[inode] = struct{}{}
			}
			if s.State == sockdiag.TCPEstablished {
				peered = append(peered, s)
			}
		}
	}
	// What has a peer there is a conversation, and counted as such, or asks this machine's own service.
	for _, s := range peered {
		_, talks := served[s.Local.Port()]
		_, asks := served[s.Remote.Port()]
		if talks || asks && (s.Remote.Addr().Unmap().IsLoopback() || s.Remote.Addr() == s.Local.Addr()) {
			delete(open, uint64(s.Inode))
		}
	}
	if !old {
		t.mu.Lock()
		for inode := range t.inquiries {
			delete(open, inode)
		}
		t.mu.Unlock()
	}
	if len(open) == 0 {
		return nil
	}
	held, _ := proc.Holders(pids, open)
	found := make(map[uint64]struct{}, len(held))
	for inode := range held {
		found[inode] = struct{}{}
	}
	return found
}

func (t *Tracker) listensOn(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.listening[inode]
	return ok
}

// ephemeralPorts is the range that the kernel chooses from (ip(7), ip_local_port_range).
func ephemeralPorts() (low, high uint16) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if low, high, ok := portRange(string(text)); ok {
			return low, high
		}
	}
	return 32768, 60999
}

func portRange(text string) (low, high uint16, ok bool) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return 0, 0, false
	}
	a, errA := strconv.ParseUint(fields[0], 10, 16)
	b, errB := strconv.ParseUint(fields[1], 10, 16)
	if errA != nil || errB != nil {
		return 0, 0, false
	}
	return uint16(a), uint16(b), true
}
