package sockets

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// rousePause is how often the queues are looked at; a client that a look finds and the next one too is one that nobody was woken for.
const rousePause = 50 * time.Millisecond

// Rouse sees to it that no client is forgotten while an old generation that can't be gated wholly comes to its end, and returns a
// function that does it, until ctx has ended and a little longer.
//
// A process of another user's goes on to be woken for the sockets that its successors wait on. If it has asked to be the only one
// (EPOLLEXCLUSIVE in epoll_ctl(2), nginx does) and then does not accept, because it is on its way out or has been given a dummy, then nobody
// else has been told of the client, until the next one comes. Where none comes by itself, this makes one: a connection that is closed at once. It
// wakes somebody up, who then finds the others.
//
// The function has duplicates of its own of the claimed TCP sockets, and closes them.
func (p *Preserved) Rouse() func(ctx context.Context) {
	var queues []queue
	for _, s := range p.Claimed() {
		if !s.Key.isTCP() {
			continue
		}
		if fd, ok := s.copy(); ok {
			queues = append(queues, queue{fd: fd, key: s.Key})
		}
	}
	return func(ctx context.Context) {
		defer func() {
			for _, q := range queues {
				unix.Close(q.fd)
			}
		}()
		if len(queues) == 0 {
			return
		}
		for pause(ctx, rousePause) {
			rouse(queues)
		}
		// What its last process has swallowed.
		for range 2 {
			rouse(queues)
			time.Sleep(rousePause)
		}
		rouse(queues)
	}
}

// queue is the accept queue of a listening socket.
type queue struct {
	fd     int // owned
	key    Key
	waited uint32 // how many were in it at the last look
}

func rouse(queues []queue) {
	for i := range queues {
		q := &queues[i]
		n := q.waiting()
		if q.waited > 0 && n >= q.waited {
			q.connect()
		}
		q.waited = n
	}
}

// waiting is how many clients are in the queue: of a listening socket tcpi_unacked says that (tcp_get_info in net/ipv4/tcp.c).
func (q *queue) waiting() uint32 {
	info, err := unix.GetsockoptTCPInfo(q.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.Unacked
}

// connect makes a connection and closes it. Where that fails there is nothing to be done about it.
func (q *queue) connect() {
	for _, to := range q.reach() {
		fd, err := unix.Socket(int(q.key.Address.Family), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
		if err != nil {
			return
		}
		err = unix.Connect(fd, to)
		unix.Close(fd)
		if err == nil || err == unix.EINPROGRESS {
			return
		}
	}
}

// reach lists the addresses at which the socket is to be reached from here, the best first.
func (q *queue) reach() []unix.Sockaddr {
	at := q.key.Address.AddrPort
	port := int(at.Port())
	mapped := &unix.SockaddrInet6{Port: port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	switch addr := at.Addr(); {
	case q.key.Address.Family == unix.AF_INET && addr.IsUnspecified():
		return []unix.Sockaddr{&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}}
	case q.key.Address.Family == unix.AF_INET:
		return []unix.Sockaddr{&unix.SockaddrInet4{Port: port, Addr: addr.As4()}}
	case !addr.IsUnspecified():
		return []unix.Sockaddr{&unix.SockaddrInet6{Port: port, Addr: addr.As16()}}
	case q.key.V6Only:
		return []unix.Sockaddr{&unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}}
	}
	return []unix.Sockaddr{mapped, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}}
}
