package sockets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/sockdiag"
	"github.com/huptime/huptime/sockets/waitstate"
)

// A datagram socket is what a program takes questions from and what it answers by: from another socket the answer would come
// from another port, and be lost. So a generation is gated on it with more care than on a listening socket:
//
//   - in epoll sets the entry is silenced as far as reading goes, and the socket stays. A program that waits in epoll asks no more, and
//     answers what it has.
//   - a thread that waits in recvfrom, recvmsg, recvmmsg, read, poll or select must wait on something else: a placeholder takes the socket's place,
//     at a moment when no thread of the process does anything, for then none has a question in hand.
//
// Such a moment is looked for; a process that has none in time is gated all the same, and an answer may be lost.

const (
	// idleLimit is how long such a moment is looked for.
	idleLimit = 3 * time.Second
	// shortestIdleLook and longestIdleLook are how often.
	shortestIdleLook = 500 * time.Microsecond
	longestIdleLook  = 10 * time.Millisecond
)

// sealDatagrams gates the processes on datagram sockets, by remote calls at either level: the calls that take datagrams are not
// notified, for that would cost too much. Where remote calls are not permitted both generations take datagrams until the old one
// is stopped; that is no error, because it answers them.
func (t *Tracker) sealDatagrams(ctx context.Context, g *gate, pids []int) {
	inodes := g.datagrams()
	if len(inodes) == 0 {
		return
	}
	for _, pid := range pids {
		err := t.sealProcessDatagrams(ctx, g, pid, inodes)
		if err != nil && !errors.Is(err, remote.ErrGone) && ctx.Err() == nil {
			t.log.Warn("a process takes datagrams beside its successor until its stop signal",
				slog.Int("generation", t.generation), slog.Int("pid", pid), slog.String("error", err.Error()))
		}
	}
}

func (t *Tracker) sealProcessDatagrams(ctx context.Context, g *gate, pid int, inodes map[uint64]struct{}) error {
	if concerned, err := concerns(pid, inodes); err != nil || !concerned {
		return err
	}
	p := &datagramProcess{t: t, g: g, pid: pid, inodes: inodes, silenced: make(map[int]bool)}
	limit := time.Now().Add(idleLimit)
	for wait := shortestIdleLook; ; wait = min(2*wait, longestIdleLook) {
		p.forced = time.Now().After(limit)
		done, err := p.seal()
		if done || err != nil {
			return err
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// datagramProcess is a process that is being gated on datagram sockets.
type datagramProcess struct {
	t        *Tracker
	g        *gate
	pid      int
	inodes   map[uint64]struct{}
	silenced map[int]bool // numbers whose entries in epoll sets were silenced
	forced   bool         // it has had its time
}

// seal tries once, in one freeze.
func (p *datagramProcess) seal() (done bool, err error) {
	code, err := proc.ABI(p.pid)
	if err != nil {
		return false, err
	}
	waited := p.waitedOnByCalls(code) // before the freeze: what a stopped thread waits on can't always be told
	err = remote.With(p.pid, freezeLimit, func(f *remote.Frozen) (err error) {
		done, err = p.sealFrozen(f, code, waited)
		return err
	})
	return done, err
}

func (p *datagramProcess) sealFrozen(f *remote.Frozen, code abi.ABI, waited map[int]bool) (done bool, err error) {
	descriptors, err := proc.Descriptors(p.pid)
	if err != nil {
		return false, err
	}
	if hasURing(descriptors) {
		return false, fmt.Errorf("process %d: %w", p.pid, errURing)
	}
	if err := p.silence(f); err != nil {
		return false, err
	}
	idle := p.idle(f, code, descriptors, waited)
	if !idle && !p.forced {
		return false, nil
	}
	if !idle {
		p.t.log.Debug("a process is gated on datagram sockets while it is busy", slog.Int("generation", p.t.generation), slog.Int("pid", p.pid))
	}
	list, err := p.g.holdings(p.pid, descriptors, func(s *Socket, d proc.Descriptor) bool {
		// One that only epoll told of stays, for the answers; unless it is read all the time, and nobody waits.
		stays := p.silenced[d.Number] && !waited[d.Number] && idle
		return s.Key.IsDatagram() && !stays
	})
	if err != nil || len(list) == 0 {
		return err == nil, err
	}
	var entries []epollset.Entry
	for _, e := range epollset.Entries([]int{p.pid}, p.inodes) {
		if slices.ContainsFunc(list, func(h held) bool { return h.fd == e.Target }) {
			e.Events = e.Requested() // it was silenced
			entries = append(entries, e)
		}
	}
	return true, p.t.exchange(p.t.gateTrade(p.g), f, p.pid, entries, list)
}

// waitedOnByCalls lists the descriptors that threads wait on by other calls than those of epoll.
func (p *datagramProcess) waitedOnByCalls(code abi.ABI) map[int]bool {
	waited := make(map[int]bool)
	tids, err := proc.Threads(p.pid)
	if err != nil {
		return waited
	}
	for _, tid := range tids {
		for _, fd := range waitstate.On(p.pid, tid, code) {
			waited[fd] = true
		}
	}
	return waited
}

// silence silences the entries in the process's epoll sets.
func (p *datagramProcess) silence(f *remote.Frozen) error {
	entries := epollset.Entries([]int{p.pid}, p.inodes)
	for _, e := range entries {
		p.silenced[e.Target] = true
	}
	return p.t.silence(p.g, entries, p.t.pids(), p.t.copyOfFrozen(f, p.pid))
}

// idle tells whether every thread waits: for what is to be done, as far as can be seen, and not for the answer that another socket brings. It adds
// to waited what is read from at this moment.
func (p *datagramProcess) idle(f *remote.Frozen, code abi.ABI, descriptors []proc.Descriptor, waited map[int]bool) bool {
	others := make(map[int]bool) // sockets that are not gated
	for _, d := range descriptors {
		if inode, ok := proc.SocketInode(d.Link); ok {
			if _, gated := p.inodes[inode]; !gated {
				others[d.Number] = true
			}
		}
	}
	for _, tid := range f.Threads() {
		call, fd, ok := f.InterruptedOn(tid)
		if !ok {
			return false
		}
		// i386's socketcall does not have its descriptor in a register: it counts as idle.
		if call == abi.Recv && code.Wide() {
			if others[fd] {
				return false
			}
			waited[fd] = true
		}
	}
	swaps := slices.ContainsFunc(descriptors, func(d proc.Descriptor) bool {
		inode, ok := proc.SocketInode(d.Link)
		_, gated := p.inodes[inode]
		return ok && gated && (waited[d.Number] || !p.silenced[d.Number])
	})
	if !swaps {
		return true // it goes on to answer by the sockets that it has
	}
	if diag, err := sockdiag.Open(); err == nil {
		defer diag.Close()
		return len(p.t.questions(diag, []int{p.pid}, p.g, !p.forced)) == 0
	}
	return true
}
