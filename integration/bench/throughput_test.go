package bench

import (
	"testing"
	"time"
)

// BenchmarkRequests compares requests a second, a connection for each, of a service alone and under huptime at both levels. All three run
// all the time; slices of load go to them in turns, in one order and the other.
func BenchmarkRequests(b *testing.B) {
	const rounds, slice = 15, 400 * time.Millisecond
	for _, kind := range []string{"nginx", "redis", "node", "go", "python"} {
		b.Run(kind, func(b *testing.B) {
			flags := [][]string{nil, {"--track=listeners"}, {"--track=connections"}}
			var running [3]service
			for i := range running {
				running[i] = services[kind](b)
				run(b, running[i].command, flags[i]...)
				running[i].awaitAnswer(b)
				running[i].load(b, slice) // it warms up
			}
			b.ResetTimer()
			for b.Loop() {
				var listeners, connections, bare []float64
				for round := range rounds {
					var rate [3]float64
					for k := range running {
						i := k
						if round%2 == 1 {
							i = len(running) - 1 - k
						}
						began := time.Now()
						n := len(running[i].load(b, slice))
						rate[i] = float64(n) / time.Since(began).Seconds()
					}
					bare = append(bare, rate[0])
					listeners = append(listeners, rate[1]/rate[0])
					connections = append(connections, rate[2]/rate[0])
				}
				report(b, bare, "bare-req/s")
				report(b, listeners, "listeners-ratio")
				report(b, connections, "connections-ratio")
			}
		})
	}
}
