package sockets

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

func TestReady(t *testing.T) {
	t.Parallel()
	const never, short = time.Hour, time.Millisecond
	blind := errHidden
	one, two := []uint64{1}, []uint64{1, 2}
	address := []*Socket{{}}
	for _, test := range []struct {
		name string
		r    readiness
		want lack
	}{
		{"first, nothing yet", readiness{first: true, sinceStart: never, sinceListen: never}, lacksListen},
		{"first, listens", readiness{first: true, listening: 1, silent: one, sinceListen: never}, lacksWaiting},
		{"first, listens unseen", readiness{first: true, unseen: true, sinceListen: short}, lacksListen},
		{"first, has listened unseen", readiness{first: true, unseen: true, sinceListen: settleUnclaimed}, lacksNothing},
		{"first, waits", readiness{first: true, listening: 1, sinceListen: short}, lacksRest},
		{"first, waits, and does nothing more",
			readiness{first: true, listening: 1, sinceListen: settleFirst, sinceAll: settleFirst}, lacksNothing},
		{"first, waits, and its sessions listen", readiness{first: true, listening: 1, sinceListen: short, sinceAll: settleBusy}, lacksNothing},
		{"first, waits on one of two", readiness{first: true, listening: 2, silent: one, sinceListen: never, sinceAll: never}, lacksWaiting},
		{"first, can't be seen", readiness{first: true, listening: 2, silent: one, blind: blind, sinceListen: settleListening, sinceAll: never},
			lacksNothing},
		{"later, nothing yet", readiness{preserved: 1, unclaimed: address, sinceStart: never, sinceListen: never}, lacksListen},
		{"later, all claimed and waited on", readiness{preserved: 2, claims: 2, listening: 2}, lacksNothing},
		{"later, all claimed, nobody waits", readiness{preserved: 2, claims: 2, listening: 2, silent: two, sinceListen: never}, lacksWaiting},
		{"later, nobody can be seen", readiness{preserved: 2, claims: 2, listening: 2, silent: two, blind: blind, sinceListen: settleListening},
			lacksNothing},
		{"later, nobody can be seen yet", readiness{preserved: 1, claims: 1, listening: 1, silent: one, blind: blind, sinceListen: short},
			lacksWaiting},
		{"later, all claimed and a new one", readiness{preserved: 1, claims: 1, listening: 2, silent: one, sinceListen: never}, lacksWaiting},
		{"later, one not claimed", readiness{preserved: 2, claims: 1, unclaimed: address, listening: 1, sinceListen: never}, lacksAddress},
		{"later, one dropped as is meant", readiness{preserved: 2, claims: 1, unclaimed: address, listening: 1, change: true,
			sinceListen: settleUnclaimed}, lacksNothing},
		{"later, one may be dropped yet", readiness{preserved: 2, claims: 1, unclaimed: address, listening: 1, change: true, sinceListen: short},
			lacksAddress},
		{"later, only a new one", readiness{preserved: 1, unclaimed: address, listening: 1, sinceListen: never}, lacksAddress},
		{"later, some of a group", readiness{preserved: 2, claims: 1, partly: true, listening: 1, sinceListen: short}, lacksRest},
		{"later, fewer in a group", readiness{preserved: 2, claims: 1, partly: true, listening: 1, sinceListen: settleUnclaimed}, lacksNothing},
		{"later, too few workers", readiness{preserved: 1, claims: 1, listening: 1, few: one, sinceListen: never}, lacksWorkers},
		{"a copy is missing", readiness{listening: 1, copies: 2, listeners: 1, sinceListen: never}, lacksCopies},
		{"no sockets at all", readiness{sinceStart: settleSocketless}, lacksNothing},
		{"no sockets at all, yet", readiness{sinceStart: settleSocketless - 1, sinceListen: never}, lacksListen},
		{"passed, loads yet", readiness{passed: true, preserved: 1, claims: 1, listening: 1, silent: one, sinceStart: never, sinceListen: never,
			sinceWait: never}, lacksWaiting},
		{"passed, waits", readiness{passed: true, preserved: 1, claims: 1, listening: 1, waiting: 1, sinceListen: never}, lacksNothing},
		{"passed, waits on one of two", readiness{passed: true, preserved: 2, claims: 2, listening: 2, waiting: 1, silent: one,
			sinceListen: never}, lacksWaiting},
		{"passed, uses one of two", readiness{passed: true, preserved: 2, claims: 2, listening: 2, waiting: 1, silent: one, sinceListen: never,
			sinceWait: settleUnclaimed}, lacksNothing},
		{"passed, can't be seen", readiness{passed: true, blind: blind, preserved: 1, claims: 1, listening: 1, silent: one,
			sinceStart: settleUnclaimed, sinceListen: never}, lacksNothing},
		{"none before, one now", readiness{listening: 1, silent: one, sinceStart: never, sinceListen: short}, lacksWaiting},
	} {
		if got := test.r.lacks(); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Every way to wait is seen from outside, and not only believed after a while.
func TestAwaitReady(t *testing.T) {
	for name, wait := range map[string]func(*testing.T, *generation, service) *puppets.Pending{
		"accept": func(t *testing.T, g *generation, s service) *puppets.Pending {
			return g.Begin(t, 1, unix.SYS_ACCEPT4, s.fd, 0, 0, 0)
		},
		"poll": func(t *testing.T, g *generation, s service) *puppets.Pending {
			polled := []byte{255, 255, 255, 255, unix.POLLIN, 0, 0, 0, byte(s.fd), 0, 0, 0, unix.POLLIN, 0, 0, 0}
			return g.Begin(t, 1, unix.SYS_PPOLL, polled, 2, 0, 0, 8)
		},
		"select": func(t *testing.T, g *generation, s service) *puppets.Pending {
			set := make([]byte, 128)
			set[s.fd/8] |= 1 << (s.fd % 8)
			return g.Begin(t, 1, unix.SYS_PSELECT6, s.fd+1, set, 0, 0, 0, 0)
		},
		"epoll": func(t *testing.T, g *generation, s service) *puppets.Pending {
			set := g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(unix.EPOLLIN, 1))
			return g.Begin(t, 1, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, -1, 0, 8)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level notify.Level) {
				g := launch(t, 1, level, nil, NewKnocks(), 0)
				s := g.listenOn(t, loopback, 0)
				if r := g.tracker.readiness(0); r.listening != 1 || r.waiting != 0 || !r.first || r.preserved != 0 {
					t.Errorf("%+v", r)
				}
				wait(t, g, s)
				eventually(t, "it is seen to wait", func() bool { return g.tracker.readiness(0).waiting == 1 })
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := g.tracker.AwaitReady(ctx); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What was claimed counts, listened on or not: some services ask SO_ACCEPTCONN and skip their listen.
func TestReadinessOfClaims(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		old := launch(t, 1, level, nil, knocks, 0)
		a := old.listenOn(t, netip.AddrPortFrom(loopback.Addr(), uint16(unusedPort(t))), unix.SOCK_NONBLOCK)
		b := old.listenOn(t, netip.AddrPortFrom(loopback.Addr(), uint16(unusedPort(t))), unix.SOCK_NONBLOCK)
		p := collect(t, old)
		next := launch(t, 2, level, p, knocks, 0)
		check := func(claimed, listening int) {
			t.Helper()
			if r := next.tracker.readiness(0); r.preserved != 2 || r.claims != claimed || r.listening != listening || r.first {
				t.Errorf("%+v, want %d claimed and %d listening", r, claimed, listening)
			}
		}
		check(0, 0)
		first := next.bindTo(t, a.addr, unix.SOCK_NONBLOCK)
		if len(p.Claimed()) != 1 {
			t.Errorf("claimed: %v", p.Claimed())
		}
		check(1, 1)
		next.Must(t, 0, unix.SYS_LISTEN, first.fd, 5)
		check(1, 1)
		next.listenOn(t, b.addr, unix.SOCK_NONBLOCK)
		check(2, 2)
	})
}

func TestAwaitReadyEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	tracker := newTestTracker(1, notify.LevelConnections, nil, func() []int { return nil }, NewKnocks(), nil)
	if err := tracker.AwaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
