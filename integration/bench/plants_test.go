package bench

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkPlants measures how fast preserved sockets are planted: the binds of a C program with 1,000 sockets, by its own clock, at
// a restart and alone.
func BenchmarkPlants(b *testing.B) {
	const rounds, count = 9, 1000
	for _, level := range []string{"listeners", "connections"} {
		b.Run(level, func(b *testing.B) {
			for b.Loop() {
				s := newBinder(b, count)
				h := run(b, s.command, "--track="+level)
				h.await(b, "generation ready", 1)
				s.times(b, 1)
				var bare, planted, rate []float64
				for i := range rounds {
					other := newBinder(b, count)
					p := run(b, other.command)
					bare = append(bare, other.times(b, 1)[0]/1e3)
					p.end()
					h.hup()
					h.await(b, "restart finished", i+2)
					ns := s.times(b, i+2)[i+1]
					planted, rate = append(planted, ns/1e3), append(rate, 1e9/ns)
					h.await(b, "generation ended", i+1)
				}
				report(b, bare, "bind-µs")
				report(b, planted, "plant-µs")
				report(b, rate, "plants/s")
				row(b, []string{"level", "a bind alone, µs", "a bind that is planted, µs", "plants a second"}, level,
					spread(bare, "%.1f"), spread(planted, "%.1f"), spread(rate, "%.0f"))
			}
		})
	}
}

// binder is a program that binds many sockets.
type binder struct {
	service
	report string
}

func newBinder(b *testing.B, count int) binder {
	b.Helper()
	ports := make([]string, count)
	for i, addr := range freeAddresses(b, count) {
		_, ports[i], _ = strings.Cut(addr, ":")
	}
	dir := b.TempDir()
	list, report := filepath.Join(dir, "ports"), filepath.Join(dir, "report")
	if err := os.WriteFile(list, []byte(strings.Join(ports, "\n")), 0o644); err != nil {
		b.Fatal(err)
	}
	return binder{service{command: []string{binds, list, report}}, report}
}

// times waits until n starts have reported, and returns nanoseconds a bind of each.
func (s binder) times(b *testing.B, n int) []float64 {
	b.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(s.report)
		var list []float64
		for _, word := range strings.Fields(string(text)) {
			ns, err := strconv.ParseFloat(word, 64)
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, ns)
		}
		if len(list) >= n {
			return list
		}
		if time.Now().After(limit) {
			b.Fatalf("%d of %d starts have reported", len(list), n)
		}
	}
}
