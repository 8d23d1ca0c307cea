package bench

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// clients is how many make requests at a time, each on a connection of its own.
const clients = 8

// rate returns the requests a second that the service answers, a connection for each. The clients are one thread of a C program, so
// that on a small machine the service is what limits. A failed request ends the benchmark: it would be no measure of anything.
func (s service) rate(b *testing.B, d time.Duration) float64 {
	b.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	cmd := exec.Command(load, append([]string{port, strconv.Itoa(clients), fmt.Sprint(d.Milliseconds())}, s.words...)...)
	out, err := cmd.CombinedOutput()
	var answered, seconds float64
	if n, _ := fmt.Sscan(string(out), &answered, &seconds); n != 2 || err != nil {
		b.Fatalf("%s: %v: %s", s.command[0], err, out)
	}
	return answered / seconds
}

// latencies makes requests for a while and returns how long each took, sorted.
func (s service) latencies(b *testing.B, d time.Duration) []time.Duration {
	b.Helper()
	var (
		mu     sync.Mutex
		all    []time.Duration
		failed error
		group  sync.WaitGroup
	)
	stop := time.Now().Add(d)
	for range clients {
		group.Go(func() {
			times := make([]time.Duration, 0, 1<<14)
			for time.Now().Before(stop) {
				began := time.Now()
				if _, err := s.once(); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				times = append(times, time.Since(began))
			}
			mu.Lock()
			all = append(all, times...)
			mu.Unlock()
		})
	}
	group.Wait()
	if failed != nil {
		b.Fatalf("a request failed: %v", failed)
	}
	slices.Sort(all)
	return all
}

// quantile is of times that are sorted, in milliseconds.
func quantile(times []time.Duration, q float64) float64 {
	return milliseconds(times[min(len(times)-1, int(q*float64(len(times))))])
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }
