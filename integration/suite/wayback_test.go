package suite

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killsEach is how often a new version is killed at each time; WAYBACK_KILLS says another number, for the figures.
const killsEach = 10

// TestWayBack: a version on probation is killed, soon or late; the old one takes over again, and nothing is lost but what
// the new one had accepted.
func TestWayBack(t *testing.T) {
	each := killsEach
	if n, err := strconv.Atoi(os.Getenv("WAYBACK_KILLS")); err == nil {
		each = n
	}
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := readying(t)
		write(t, s.config, "accepted")
		h := s.run(t, level, "--min-ready=10s")
		l := startWitnesses(t, s.addr, 4)
		generation := 1
		for _, after := range []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond} {
			var longest, longestTook time.Duration
			for range each {
				generation++
				h.hup()
				h.await("generation ready", generation)
				pid := h.await("generation started", generation).PID
				time.Sleep(after) // the row is about these times
				killed, died := killAndWait(t, pid)
				l.kill(kill{pid, killed, died})
				again := h.awaitNth("generation serves again", generation-1)
				longest = max(longest, time.Since(killed))
				took, err := time.ParseDuration(again.Took)
				if err != nil {
					t.Fatal(err)
				}
				longestTook = max(longestTook, took)
				if reason := h.await("restart failed", generation).Reason; !strings.Contains(reason, "after it was ready") {
					t.Errorf("the reason is %q", reason)
				}
			}
			t.Logf("killed %v after it was ready, %d times: back %v after the kill at most, of which the exchange took %v",
				after, each, longest.Round(time.Millisecond), longestTook)
		}
		h.hup()
		h.await("generation ready", generation+1)
		l.check(h)
	})
}

// awaitNth waits for the n-th event of that kind.
func (s *supervisor) awaitNth(msg string, n int) event {
	s.t.Helper()
	var found event
	s.until(fmt.Sprintf("%q, %d times", msg, n), func() bool {
		seen := 0
		for _, e := range s.events {
			if e.Msg == msg {
				if seen++; seen == n {
					found = e
					return true
				}
			}
		}
		return false
	})
	return found
}

// killAndWait kills a process and tells when, and when it had ended.
func killAndWait(t *testing.T, pid int) (killed, died time.Time) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	killed = time.Now()
	if err := unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("process %d does not end: %v", pid, err)
		}
		return killed, time.Now()
	}
}

// witnesses are clients that note of each failed request from where and when it was made.
type witnesses struct {
	t    *testing.T
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	requests int
	longest  time.Duration
	failures []witnessed
	kills    []kill
}

type kill struct {
	pid          int
	killed, died time.Time
}

type witnessed struct {
	port       string // "" where no connection was made
	began, end time.Time
	err        error
}

func startWitnesses(t *testing.T, addr string, n int) *witnesses {
	w := &witnesses{t: t, stop: make(chan struct{})}
	for range n {
		w.done.Go(func() {
			for {
				select {
				case <-w.stop:
					return
				default:
					w.ask(addr)
				}
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

func (w *witnesses) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.done.Wait()
}

func (w *witnesses) ask(addr string) {
	f := witnessed{began: time.Now()}
	c, err := dial(addr, false)
	if err == nil {
		_, f.port, _ = net.SplitHostPort(c.conn.LocalAddr().String())
		_, err = askHTTP(c)
		c.conn.Close()
	}
	f.end, f.err = time.Now(), err
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests++
	w.longest = max(w.longest, f.end.Sub(f.began))
	if err != nil {
		w.failures = append(w.failures, f)
	}
}

func (w *witnesses) kill(k kill) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills = append(w.kills, k)
}

// check fails the test for each failed request but those that a killed process had accepted. It says whom it accepts; it
// may be killed between accept and that, which is one request for each kill, as one thread of it accepts.
func (w *witnesses) check(h *supervisor) {
	w.t.Helper()
	w.end()
	h.mu.Lock()
	accepted := make(map[string]bool)
	for _, line := range h.output {
		accepted[line] = true
	}
	h.mu.Unlock()
	known, unsaid, lost := 0, make(map[int]int), 0
	for _, f := range w.failures {
		i := slices.IndexFunc(w.kills, func(k kill) bool {
			return f.began.Before(k.died) && f.end.After(k.killed)
		})
		switch {
		case i >= 0 && f.port != "" && accepted[fmt.Sprintf("pid %d accepted %s", w.kills[i].pid, f.port)]:
			known++
		case i >= 0 && f.port != "" && unsaid[i] == 0:
			unsaid[i]++
		default:
			lost++
			w.t.Errorf("lost: from port %q, it took %v and failed %v after the last kill: %v",
				f.port, f.end.Sub(f.began), w.sinceKill(f), f.err)
		}
	}
	w.t.Logf("%d kills under %d requests, the longest %v: "+
		"%d failed that a killed process had accepted, %d that it may have, %d others",
		len(w.kills), w.requests, w.longest.Round(time.Millisecond), known, len(unsaid), lost)
}

// sinceKill is how long after the last kill before it a request failed.
func (w *witnesses) sinceKill(f witnessed) time.Duration {
	last := time.Duration(-1)
	for _, k := range w.kills {
		if d := f.end.Sub(k.killed); d >= 0 && (last < 0 || d < last) {
			last = d
		}
	}
	return last
}
