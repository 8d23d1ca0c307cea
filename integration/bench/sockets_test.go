package bench

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkManySockets compares a restart of a service that listens on 1,000 addresses, from SIGHUP to the end of the restart, with the start of the same
// service alone, until it answers at the address that it binds last.
func BenchmarkManySockets(b *testing.B) {
	const pairs, count = 9, 1000
	for _, level := range []string{"listeners", "connections"} {
		b.Run(level, func(b *testing.B) {
			for b.Loop() {
				s := many(b, count)
				h := run(b, s.command, "--track="+level)
				h.await(b, "generation ready", 1)
				var alone, restarts, ratios []float64
				for i := range pairs {
					other := many(b, count)
					began := time.Now()
					p := run(b, other.command)
					other.awaitAnswer(b)
					start := milliseconds(time.Since(began))
					p.end()

					began = time.Now()
					h.hup()
					restart := milliseconds(h.await(b, "restart finished", i+2).Time.Sub(began))
					h.await(b, "generation ended", i+1)
					alone, restarts, ratios = append(alone, start), append(restarts, restart), append(ratios, restart/start)
				}
				report(b, alone, "start-ms")
				report(b, restarts, "restart-ms")
				report(b, ratios, "ratio")
				row(b, []string{"level", "its own start, ms", "restart, ms", "restart : start"}, level,
					spread(alone, "%.0f"), spread(restarts, "%.0f"), spread(ratios, "%.1f"))
			}
		})
	}
}

// freeAddresses are addresses of ports that nobody has just now.
func freeAddresses(b *testing.B, count int) []string {
	b.Helper()
	addrs := make([]string, count)
	listeners := make([]net.Listener, count)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		listeners[i], addrs[i] = l, l.Addr().String()
	}
	for _, l := range listeners {
		l.Close()
	}
	return addrs
}

// many is the Go service with so many addresses. It is asked at the last one.
func many(b *testing.B, count int) service {
	b.Helper()
	addrs := freeAddresses(b, count)
	// Not on the command line, which is long enough as it is.
	config := filepath.Join(b.TempDir(), "addresses")
	if err := os.WriteFile(config, []byte("also="+strings.Join(addrs[1:], ",")), 0o644); err != nil {
		b.Fatal(err)
	}
	return service{[]string{goserver, "-addr", addrs[0], "-config", config}, addrs[count-1], askHTTP}
}
