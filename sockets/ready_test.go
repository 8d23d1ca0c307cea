package sockets

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"huptime/internal/abi"
	"huptime/internal/puppets"
	"huptime/notify"
)

func TestReady(t *testing.T) {
	t.Parallel()
	const never, short = time.Hour, time.Millisecond
	for _, test := range []struct {
		name string
		r    readiness
		want bool
	}{
		{"first, nothing yet", readiness{first: true, sinceStart: never, sinceListen: never}, false},
		{"first, listens", readiness{first: true, listening: 1, sinceListen: short}, false},
		{"first, listens unseen", readiness{first: true, unseen: true, sinceListen: short}, false},
		{"first, has listened unseen", readiness{first: true, unseen: true, sinceListen: settleUnclaimed}, true},
		{"first, waits", readiness{first: true, listening: 1, waiting: 1, sinceListen: short}, false},
		{"first, waits, and does nothing more", readiness{first: true, listening: 1, waiting: 1, sinceListen: settleFirst}, true},
		{"first, waits on one of two", readiness{first: true, listening: 2, waiting: 1, sinceListen: short}, false},
		{"first, has settled", readiness{first: true, listening: 2, waiting: 1, sinceListen: settleListening}, true},
		{"later, nothing yet", readiness{preserved: 1, sinceStart: never, sinceListen: never}, false},
		{"later, all claimed and waited on", readiness{preserved: 2, claimed: 2, listening: 2, waiting: 2}, true},
		{"later, all claimed", readiness{preserved: 2, claimed: 2, listening: 2, sinceListen: settleListening - 1}, false},
		{"later, all claimed, settled", readiness{preserved: 2, claimed: 2, listening: 2, sinceListen: settleListening}, true},
		{"later, all claimed and a new one", readiness{preserved: 1, claimed: 1, listening: 2, waiting: 1}, false},
		{"later, one not claimed", readiness{preserved: 2, claimed: 1, listening: 1, waiting: 1, sinceListen: settleListening}, false},
		{"later, one dropped", readiness{preserved: 2, claimed: 1, listening: 1, waiting: 1, sinceListen: settleUnclaimed}, true},
		{"later, only a new one", readiness{preserved: 1, listening: 1, waiting: 1, sinceListen: settleUnclaimed - 1}, false},
		{"later, only a new one, settled", readiness{preserved: 1, listening: 1, sinceListen: settleUnclaimed}, true},
		{"no sockets at all", readiness{sinceStart: settleSocketless}, true},
		{"no sockets at all, yet", readiness{sinceStart: settleSocketless - 1, sinceListen: never}, false},
		{"none before, one now", readiness{listening: 1, sinceStart: never, sinceListen: short}, false},
	} {
		if got := test.r.ready(); got != test.want {
			t.Errorf("%s: %v", test.name, got)
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
				if r := g.tracker.readiness(); r.listening != 1 || r.waiting != 0 || !r.first || r.preserved != 0 {
					t.Errorf("%+v", r)
				}
				wait(t, g, s)
				eventually(t, "it is seen to wait", func() bool { return g.tracker.readiness().waiting == 1 })
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := g.tracker.AwaitReady(ctx); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A socket that was claimed and is not listened on yet does not count: clients would queue nowhere.
func TestReadinessOfClaims(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		old := launch(t, 1, level, nil, knocks, 0)
		a, b := old.listenOn(t, loopback, unix.SOCK_NONBLOCK), old.listenOn(t, loopback, unix.SOCK_NONBLOCK)
		p := collect(t, old)
		next := launch(t, 2, level, p, knocks, 0)
		check := func(claimed, listening int) {
			t.Helper()
			if r := next.tracker.readiness(); r.preserved != 2 || r.claimed != claimed || r.listening != listening || r.first {
				t.Errorf("%+v, want %d claimed and %d listening", r, claimed, listening)
			}
		}
		check(0, 0)
		first := next.bindTo(t, a.addr, unix.SOCK_NONBLOCK)
		if len(p.Claimed()) != 1 {
			t.Errorf("claimed: %v", p.Claimed())
		}
		check(0, 0)
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
	tracker := NewTracker(1, notify.LevelConnections, nil, func() []int { return nil }, NewKnocks(), nil)
	if err := tracker.AwaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
