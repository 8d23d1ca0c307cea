package suite

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFaultEListenerClosed: at the level calls huptime knows within milliseconds that the service has closed a listening socket, and lets
// go what it keeps of it. A socket of huptime's own stays open, and clients wait for the service to bind it again.
func TestFaultEListenerClosed(t *testing.T) {
	const limit = 250 * time.Millisecond // far above what it takes, and below the two looks that it takes without close
	for name, flags := range map[string][]string{"plain": nil, "revive": {"--revive"}, "standing": {"--listen"}, "standing, revive": {"--listen", "--revive"}} {
		t.Run(name, func(t *testing.T) {
			s := golang(t, "-close-at-usr1")
			standing := slices.Contains(flags, "--listen")
			args := []string{"--track=calls"}
			for _, f := range flags {
				if f == "--listen" {
					f += "=tcp://" + s.addr
				}
				args = append(args, f)
			}
			h := start(t, append(args, s.command...))
			h.await("generation ready", 1)
			if slices.Contains(flags, "--revive") {
				h.until("the socket to be kept", func() bool { return h.has("listening socket kept", 1) })
			}
			h.signal(syscall.SIGUSR1)
			h.awaitOutput("closed its listening socket")
			closed := time.Now()
			what := "the service has closed a listening socket"
			if standing {
				what = "the service has closed a socket of huptime's: clients wait until it binds it again"
			}
			e := h.await(what, 1)
			took := time.Since(closed)
			t.Logf("known %v after the close, as %s", took, e.Address)
			if took > limit || !strings.Contains(e.Address, s.addr) {
				t.Errorf("known %v after the close, as %q", took, e.Address)
			}
			if alive(s.addr) != standing {
				t.Errorf("the address accepts connections: %v, want %v", !standing, standing)
			}
			if standing { // the next generation has it, and serves whoever waits
				h.hup()
				h.await("restart finished", 2)
				s.mustAnswer(t)
			}
		})
	}
}

// TestFaultEConnectionClosed: at the level calls the drain ends when the last connection does, and not with its next look.
func TestFaultEConnectionClosed(t *testing.T) {
	const rounds, limit = 7, 70 * time.Millisecond // with looks every 200 ms alone the median is some 100 ms
	s := golang(t)
	h := s.run(t, "calls")
	var times []time.Duration
	for i := range rounds {
		c, err := dial(s.addr, true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		if _, err := s.ask(c); err != nil { // it is accepted
			t.Fatal(err)
		}
		fmt.Fprint(c.conn, "GET /slow?ms=1200 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
		h.hup()
		h.await("restart finished", i+2)
		if h.count("generation drained") != i {
			t.Fatal("the drain did not wait for the connection")
		}
		if answer, err := io.ReadAll(c.r); err != nil || !strings.Contains(string(answer), "200 OK") {
			t.Fatalf("%q, %v", answer, err)
		}
		ended := time.Now()
		h.await("generation drained", i+1)
		times = append(times, time.Since(ended))
		h.await("generation ended", i+1)
	}
	slices.Sort(times)
	t.Logf("drained after the last connection's end by %v", times)
	if times[rounds/2] > limit {
		t.Errorf("drained %v after the last connection's end", times[rounds/2])
	}
}

// TestFaultEManyCloses: processes that do nothing but close, what is open and what is not, in threads and in children that end, serve
// through restarts.
func TestFaultEManyCloses(t *testing.T) {
	s := python(t, "thread")
	script := `
import os, sys, threading
def churn():
    while True:
        r, w = os.pipe(); os.close(r); os.close(w)
        d = os.dup(0); os.close(d)
        try: os.close(1 << 20)
        except OSError: pass
        if os.fork() == 0: os._exit(0)
        try: os.waitpid(-1, 0)
        except OSError: pass
        threading.Event().wait(0.002)
threading.Thread(target=churn, daemon=True).start()
sys.argv = sys.argv[1:]
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
`
	s.command = append([]string{s.command[0], "-c", script}, s.command[1:]...)
	h := s.run(t, "calls")
	h.restartsUnderLoad(s, 5, "a service that closes all the time")
}
