package sockets

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// How often the queues are looked at: soon at first, for a client that a look finds and the next one too may be one that nobody was woken for.
const (
	shortestWakePause = 5 * time.Millisecond
	longestWakePause  = 50 * time.Millisecond
	// lastWakeLooks is how many looks there are, from the shortest pause on, once what makes it necessary is over.
	lastWakeLooks = 5
)

// Wake sees to it that no client is forgotten while another generation than the one that has claimed the sockets gives them up, be it that it is
// gated or that it ends, and returns a function that does it, until ctx has ended and a little longer.
//
// Of those who wait for a socket with EPOLLEXCLUSIVE (epoll_ctl(2); nginx does) the kernel tells one of a client, and the others of the next. If the
// one was told and then does not accept, because it was given a placeholder meanwhile, or is on its way out, or may not be gated
// and goes on to be told, then nobody else has been told of the client, until the next one comes. Where none comes by itself, this makes one: a connection
// that is closed at once. It wakes somebody up, who then finds the others.
//
// The function has duplicates of its own of the claimed sockets, and closes them. Vsock sockets are left out: few kernels have a way to connect from here.
func (p *Preserved) Wake() func(ctx context.Context) {
	return WakeAt(p.Claimed())
}

// WakeAt is Preserved.Wake for these sockets, of which it has duplicates of its own: on the way back (Tracker.Ungate) it is the generation that was to
// take over which gives them up.
func WakeAt(sockets []*Socket) func(ctx context.Context) {
	var queues []queue
	for _, s := range sockets {
		if s.Key.IsDatagram() || s.Key.Address.Family == unix.AF_VSOCK {
			continue
		}
		if q, ok := queueOf(s); ok {
			q.naive = s.owner != nil && s.owner.onlyAccepts(s.Inode) // not in queueOf, which may be called under the tracker's lock
			queues = append(queues, q)
		}
	}
	return func(ctx context.Context) {
		defer func() {
			for i := range queues {
				queues[i].close()
			}
		}()
		if len(queues) == 0 {
			return
		}
		wait := shortestWakePause
		for ; ctx.Err() == nil; wait = min(2*wait, longestWakePause) {
			wake(queues)
			pause(ctx, wait)
		}
		wait = shortestWakePause
		for range lastWakeLooks {
			wake(queues)
			time.Sleep(wait)
			wait *= 2
		}
	}
}

// naiveLooks is how many looks in a row must find clients that nobody takes before one more is sent to a naive server.
const naiveLooks = 4

// queue is the accept queue of a listening socket.
type queue struct {
	fd     int // owned
	key    sockaddr.Key
	name   string       // of a unix socket: Socket.Path
	file   *paths.Found // of a unix socket with a path; owned
	naive  bool         // whoever takes a connection does nothing but accept, and may complain of one that asks nothing
	seen   int          // how many looks in a row have found no fewer
	waited uint32       // how many were in it at the last look
}

// queueOf is that of a socket of which the supervisor has a duplicate. The caller closes it.
func queueOf(s *Socket) (q queue, ok bool) {
	if s == nil {
		return queue{}, false
	}
	fd, ok := s.copy()
	if !ok {
		return queue{}, false
	}
	q = queue{fd: fd, key: s.Key, name: s.Path}
	if s.file != nil {
		q.file, _ = s.file.found.Clone()
	}
	return q, true
}

// copy has descriptors of its own.
func (q *queue) copy() (queue, bool) {
	fd, err := unix.FcntlInt(uintptr(q.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return queue{}, false
	}
	other := queue{fd: fd, key: q.key, name: q.name}
	if q.file != nil {
		other.file, _ = q.file.Clone()
	}
	return other, true
}

func (q *queue) close() {
	unix.Close(q.fd)
	if q.file != nil {
		q.file.Close()
	}
}

func wake(queues []queue) {
	for i := range queues {
		q := &queues[i]
		n := q.waiting()
		if q.waited > 0 && n >= q.waited {
			q.seen++
		} else {
			q.seen = 0
		}
		if q.seen > 0 && (!q.naive || q.seen%naiveLooks == 0) {
			q.connect()
		}
		q.waited = n
	}
}

// waiting is how many clients are in the queue: of a listening TCP socket tcpi_unacked says that (tcp_get_info in net/ipv4/tcp.c). Of others it is known whether
// there are any.
func (q *queue) waiting() uint32 {
	if !q.key.IsTCP() {
		polled := []unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(polled, 0)
		return uint32(max(n, 0))
	}
	info, err := unix.GetsockoptTCPInfo(q.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.Unacked
}

// connect makes a connection and closes it. Where that fails there is nothing to be done about it.
func (q *queue) connect() {
	for _, to := range q.reach() {
		protocol := unix.IPPROTO_TCP
		if q.key.Address.Family == unix.AF_UNIX {
			protocol = 0
		}
		fd, err := unix.Socket(int(q.key.Address.Family), q.key.Type|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		if err != nil {
			return
		}
		err = unix.Connect(fd, to)
		if q.key.IsTCP() {
			ownVisits.note(fd, q.key.Address.Port())
		}
		if err == nil && q.key.Address.Family == unix.AF_UNIX {
			ownUnixVisits.end(fd, q.name)
			return
		}
		unix.Close(fd)
		if err == nil || err == unix.EINPROGRESS {
			return
		}
	}
}

// reach lists the addresses at which the socket is to be reached from here, the best first.
func (q *queue) reach() []unix.Sockaddr {
	switch {
	case q.file != nil:
		return []unix.Sockaddr{&unix.SockaddrUnix{Name: q.file.Path()}}
	case q.key.Address.Family == unix.AF_UNIX:
		return []unix.Sockaddr{&unix.SockaddrUnix{Name: q.key.Address.Name}}
	}
	at := q.key.Address.AddrPort
	port := int(at.Port())
	mapped := &unix.SockaddrInet6{Port: port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	switch addr := at.Addr(); {
	case q.key.Address.Family == unix.AF_INET && addr.IsUnspecified():
		return []unix.Sockaddr{&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}}
	case !addr.IsUnspecified():
		return []unix.Sockaddr{q.key.Address.Sockaddr()} // a link-local one with its interface
	case q.key.V6Only:
		return []unix.Sockaddr{&unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}}
	}
	return []unix.Sockaddr{mapped, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}}
}
