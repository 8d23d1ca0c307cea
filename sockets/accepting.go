package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// Runtimes that watch all their sockets edge-triggered (Go's, tokio) put a listening socket into their epoll set when it listens, and a thread
// waits there for whatever else the program does: that it waits for clients too shows when one comes. So such a generation is looked at again once
// it alone has the clients.

// errNotAccepting: clients wait, and nobody takes them.
var errNotAccepting = errors.New("clients wait, and nobody accepts them")

const (
	// notAccepting is how long the clients of a socket may wait, with none of them taken, before the old generation takes them back.
	notAccepting = 250 * time.Millisecond
	// acceptsLook is how often the queues are looked at.
	acceptsLook = 5 * time.Millisecond
)

// AwaitAccepting returns nil once the generation has been seen to accept on each socket on which it was only seen to wait by an edge-triggered
// entry of an epoll set. Where no client has come after quiet it makes a connection of its own, and closes it. The error tells where clients wait that
// nobody accepts. Call it when nobody else accepts there; it returns ctx's error when ctx ends before.
func (t *Tracker) AwaitAccepting(ctx context.Context, quiet time.Duration) error {
	queues := t.unproven()
	defer func() {
		for i := range queues {
			queues[i].close()
		}
	}()
	began := time.Now()
	for len(queues) > 0 {
		for i := 0; i < len(queues); i++ {
			proven, err := queues[i].look(time.Since(began) >= quiet)
			if err != nil {
				return fmt.Errorf("%w: %s", err, t.namesOf([]uint64{queues[i].inode}))
			}
			if proven {
				t.mu.Lock()
				t.firm[queues[i].inode] = struct{}{}
				t.mu.Unlock()
				queues[i].close()
				queues = append(queues[:i], queues[i+1:]...)
				i--
			}
		}
		if !pause(ctx, acceptsLook) {
			return ctx.Err()
		}
	}
	return nil
}

// unprovenQueue is the accept queue of a socket of which nothing firm is known.
type unprovenQueue struct {
	queue
	inode uint64
	since time.Time // since when clients wait in it with none of them taken; zero while none does
	asked bool      // a connection was made to it
}

// unproven lists them. They own duplicates of the sockets.
func (t *Tracker) unproven() []unprovenQueue {
	if t.preserved == nil {
		return nil
	}
	var list []unprovenQueue
	for _, s := range t.preserved.Claimed() {
		t.mu.Lock()
		_, firm := t.firm[s.Inode]
		known := len(t.waitedBy[s.Inode]) > 0
		t.mu.Unlock()
		if firm || !known || s.Key.IsDatagram() || s.Key.Address.Family == unix.AF_VSOCK {
			continue
		}
		if fd, ok := s.copy(); ok {
			q := unprovenQueue{queue: queue{fd: fd, key: s.Key}, inode: s.Inode}
			if s.file != nil {
				q.file, _ = s.file.found.Clone()
			}
			list = append(list, q)
		}
	}
	return list
}

// look looks at the queue once. It is proven that somebody accepts where it holds fewer clients than before.
func (q *unprovenQueue) look(late bool) (proven bool, err error) {
	n := q.queue.waiting()
	before := q.waited
	q.waited = n
	switch {
	case n < before:
		return true, nil
	case n == 0 && q.asked:
		return true, nil // its own connection has been taken
	case n == 0 && late:
		q.asked = true
		q.connect()
		return false, nil
	case n == 0:
		return false, nil
	case q.since.IsZero():
		q.since = time.Now()
	case time.Since(q.since) > notAccepting:
		return false, errNotAccepting
	}
	return false, nil
}

// Doubt says that a generation which has waited has not accepted: it starts again, and is asked for more than it has shown.
func (t *Tracker) Doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starting, t.doubts = true, t.doubts+1
	t.doubted = time.Now()
}

// doubtful tells whether a socket needs more evidence than there is, and not enough time has passed to try once more. t.mu is held.
func (e *evidence) doubtful(inode uint64) bool {
	if e.doubts == 0 {
		return false
	}
	_, firm := e.firm[inode]
	const first, most = 250 * time.Millisecond, 4
	return !firm && time.Since(e.doubted) < first<<min(e.doubts, most)
}

// Proven returns nil once a generation that has sockets of its own, see Stage, has been seen to accept on those of them on which it was only seen to
// wait by an edge-triggered entry of an epoll set: it is made a connection that nobody else can get. It returns ctx's error when ctx ends before.
func (t *Tracker) Proven(ctx context.Context) error {
	for _, s := range t.unprovenOwn() {
		if err := t.prove(ctx, s.inode, s.key); err != nil {
			return err
		}
	}
	return nil
}

// ownUnproven is a socket of the generation's own of which nothing firm is known.
type ownUnproven struct {
	inode uint64
	key   sockaddr.Key
}

func (t *Tracker) unprovenOwn() (list []ownUnproven) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stage.on {
		return nil // there is nothing to reach it by
	}
	for inode := range t.listening {
		own, ok := t.stage.mine[inode]
		_, firm := t.firm[inode]
		_, late := t.late[inode]
		if ok && !own.planted && !firm && !late && own.key.IsTCP() && len(t.waitedBy[inode]) > 0 {
			list = append(list, ownUnproven{inode, own.key})
		}
	}
	return list
}

// prove connects to a socket of the generation's own and waits until the connection is taken.
func (t *Tracker) prove(ctx context.Context, inode uint64, k sockaddr.Key) error {
	t.mu.Lock()
	t.proving = inode
	t.mu.Unlock()
	at := k.Address.AddrPort
	c, err := t.DialProbe(ctx, "tcp", net.JoinHostPort(at.Addr().String(), strconv.Itoa(int(at.Port()))))
	if err != nil {
		return ctx.Err() // it can't be reached so: what was seen has to do
	}
	defer c.Close()
	for {
		list, err := listeners(k)
		if err != nil {
			return nil
		}
		i := slices.IndexFunc(list, func(s sockdiag.InetSocket) bool { return uint64(s.Inode) == inode })
		if i < 0 || list[i].Waiting == 0 {
			break
		}
		if !pause(ctx, acceptsLook) {
			return ctx.Err()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.firm[inode], t.proving = struct{}{}, 0
	return nil
}
