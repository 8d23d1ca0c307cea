package sockets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// launchStaged starts a generation with sockets of its own.
func launchStaged(t *testing.T, number int, from *Preserved, knocks *Knocks) *generation {
	t.Helper()
	return launchPrepared(t, number, notify.LevelListeners, from, knocks, 0, func(tr *Tracker) {
		if err := tr.Stage(); err != nil {
			t.Fatal(err)
		}
	})
}

// A staged generation gets no client from before its listen to the switch, and all from then on; and again on
// the way back.
func TestStage(t *testing.T) {
	for _, kind := range stagedKinds {
		for _, count := range []int{1, 2, 3} {
			if count > 1 && !kind.option {
				continue
			}
			t.Run(fmt.Sprint(kind.name, count), func(t *testing.T) {
				knocks := NewKnocks()
				at := kind.unused(t)
				old := launchStaged(t, 1, nil, knocks)
				var olds, news []service
				for range 2*count - 1 { // it shrinks, too
					olds = append(olds, kind.listens(t, old.puppet, at))
				}
				preserved := collect(t, old)
				next := launchStaged(t, 2, preserved, knocks)
				sum := func(p *puppet, list []service) (n int) {
					for _, s := range list {
						n += kind.takes(t, p, s)
					}
					return n
				}
				clients := kind.crowd(at)
				clients.until(t, 20)
				for range count {
					news = append(news, kind.opens(t, next.puppet, at))
				}
				clients.until(t, 20)
				if kind.kind == unix.SOCK_STREAM {
					for _, s := range news {
						next.Must(t, 0, unix.SYS_LISTEN, s.fd, 4096)
					}
				}
				clients.until(t, 50)
				if why := next.tracker.PlantedInstead(); len(why) > 0 || len(next.tracker.Staged()) != len(olds) {
					t.Fatalf("planted: %v; %d are staged", why, len(next.tracker.Staged()))
				}
				if n := sum(next.puppet, news); n > 0 {
					t.Errorf("%d clients came to the new generation before the switch", n)
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				// Who was on its way at the moment of the switch is in some queue by now.
				clients.until(t, 6)
				a := sum(old.puppet, olds)
				clients.until(t, 50)
				if n := sum(old.puppet, olds); n > 0 {
					t.Errorf("%d clients came to the old generation after the switch", n)
				}
				if _, err := next.tracker.SwitchBack(t.Context()); err != nil {
					t.Fatal(err)
				}
				clients.until(t, 6)
				b := sum(next.puppet, news)
				clients.until(t, 50)
				if n := sum(next.puppet, news); n > 0 {
					t.Errorf("%d clients came to the new generation after the way back", n)
				}
				if err := next.tracker.Switch(t.Context()); err != nil {
					t.Fatal(err)
				}
				sent := clients.over(t)
				a += sum(old.puppet, olds)
				b += sum(next.puppet, news)
				if a+b != sent {
					t.Errorf("%d clients, of which %d reached the old generation and %d the new one", sent, a, b)
				}
				// The end of the old one: nobody is refused, and the kernel chooses again.
				clients = kind.crowd(at)
				clients.until(t, 20)
				_ = unix.Kill(-old.PID, unix.SIGKILL)
				eventually(t, "the old generation is over", func() bool { return len(group(old.PID)) == 0 })
				preserved.Close()
				clients.until(t, 50)
				sent = clients.over(t)
				if n := sum(next.puppet, news); n != sent {
					t.Errorf("%d of %d clients reached the new generation", n, sent)
				}
				for range 64 * count {
					ask(t, sockaddr.Key{Type: kind.kind, Address: addressOf(kind.target(at))})
				}
				for i, s := range news {
					if kind.takes(t, next.puppet, s) == 0 {
						t.Errorf("socket %d gets nothing when the old ones are gone", i)
					}
				}
			})
		}
	}
}

// A probe reaches the new generation's own socket and no other.
func TestDialProbe(t *testing.T) {
	const probes = 50
	for _, kind := range stagedKinds {
		t.Run(kind.name, func(t *testing.T) {
			knocks := NewKnocks()
			at := kind.unused(t)
			old := launchStaged(t, 1, nil, knocks)
			was := kind.listens(t, old.puppet, at)
			next := launchStaged(t, 2, collect(t, old), knocks)
			is := kind.opens(t, next.puppet, at)
			if kind.kind == unix.SOCK_STREAM {
				_, err := next.tracker.DialProbe(t.Context(), kind.network(), kind.target(at).String())
				if !errors.Is(err, ErrNotListening) {
					t.Fatalf("a probe before listen: %v", err)
				}
				next.Must(t, 0, unix.SYS_LISTEN, is.fd, 4096)
			}
			clients := kind.crowd(at)
			for i := range probes {
				c, err := next.tracker.DialProbe(t.Context(), kind.network(), kind.target(at).String())
				if err != nil {
					t.Fatal(i, err)
				}
				if kind.kind == unix.SOCK_DGRAM {
					if _, err := c.Write([]byte("p")); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
			}
			clients.until(t, 20)
			sent := clients.over(t)
			if n := kind.takes(t, next.puppet, is); n != probes {
				t.Errorf("%d of %d probes reached the new generation", n, probes)
			}
			if n := kind.takes(t, old.puppet, was); n != sent {
				t.Errorf("%d of %d clients reached the old generation", n, sent)
			}
		})
	}
}

// A second probe waits for the first, no longer than its context.
func TestDialProbeTwice(t *testing.T) {
	kind := stagedKinds[0]
	at := kind.unused(t)
	g := launchStaged(t, 1, nil, NewKnocks())
	kind.listens(t, g.puppet, at)
	first, err := g.tracker.DialProbe(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := g.tracker.DialProbe(ctx, "tcp", at.String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := g.tracker.DialProbe(t.Context(), "tcp", fmt.Sprint(":", at.Port()))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, io.LimitReader(second, 0))
	second.Close()
}
