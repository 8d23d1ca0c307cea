package bench

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// clients is how many make requests at a time, each on a connection of its own.
const clients = 8

// load makes requests for a while and returns how long each took. A failed request ends the benchmark: it would be no measure of anything.
func (s service) load(b *testing.B, d time.Duration) []time.Duration {
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
	return all
}

// quartiles sorts, and returns the median and the quartiles.
func quartiles(values []float64) (q1, median, q3 float64) {
	slices.Sort(values)
	at := func(q float64) float64 {
		x := q * float64(len(values)-1)
		i := int(x)
		if i+1 >= len(values) {
			return values[len(values)-1]
		}
		return values[i] + (x-float64(i))*(values[i+1]-values[i])
	}
	return at(0.25), at(0.5), at(0.75)
}

// report reports the median with its quartiles under a name. Rows for BENCHMARKS.md are made by row.
func report(b *testing.B, values []float64, name string) {
	b.Helper()
	q1, median, q3 := quartiles(values)
	b.ReportMetric(median, name)
	b.ReportMetric(q1, name+"-q1")
	b.ReportMetric(q3, name+"-q3")
}

// quantile is of times that are sorted, in milliseconds.
func quantile(times []time.Duration, q float64) float64 {
	return float64(times[min(len(times)-1, int(q*float64(len(times))))]) / 1e6
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

func name(parts ...any) string { return fmt.Sprint(parts...) }
