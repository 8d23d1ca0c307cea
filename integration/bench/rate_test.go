package bench

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// words tell testdata/load.c what to ask, how the answer begins, and how it ends where the service does not close the connection.
func words(kind string) []string {
	if kind == "redis" {
		return []string{"PING\r\n", "+PONG\r\n", "\r\n"}
	}
	return []string{"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "}
}

// rate returns how many requests the service answers, a connection for each, and how many a second. The clients are C programs of one thread each, one
// for each CPU: a single one is busy all the time with nginx, and would limit it. A failed request ends the
// benchmark: it would be no measure of anything.
func (s service) rate(b *testing.B, kind string, d time.Duration) (requests int, perSecond float64) {
	b.Helper()
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		b.Fatal(err)
	}
	programs := min(runtime.NumCPU(), clients)
	counts, rates := make([]int, programs), make([]float64, programs)
	failures := make([]error, programs)
	var group sync.WaitGroup
	for i := range programs {
		group.Go(func() {
			args := append([]string{port, strconv.Itoa(clients / programs), fmt.Sprint(d.Milliseconds())}, words(kind)...)
			out, err := exec.Command(client, args...).CombinedOutput()
			var seconds float64
			if n, _ := fmt.Sscan(string(out), &counts[i], &seconds); n != 2 || err != nil {
				failures[i] = fmt.Errorf("%v: %s", err, out)
				return
			}
			rates[i] = float64(counts[i]) / seconds
		})
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		b.Fatalf("%s: %v", kind, err)
	}
	for i := range programs {
		requests += counts[i]
		perSecond += rates[i]
	}
	return requests, perSecond
}
