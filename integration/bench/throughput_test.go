package bench

import (
	"testing"
	"time"
)

// BenchmarkRequests compares requests a second, a connection for each, of a service alone and under huptime at both levels. All three run
// all the time; slices of load go to them in turns, in one order and the other.
func BenchmarkRequests(b *testing.B) {
	const rounds, slice = 15, 500 * time.Millisecond
	for _, kind := range []string{"nginx", "redis", "node", "go", "python"} {
		b.Run(kind, func(b *testing.B) {
			defer watchOthers(b)()
			// The fourth is the service alone once more: how far its ratio is from 1, and how wide it is spread, is the noise of the run.
			variants := [][]string{nil, {"--track=listeners"}, {"--track=connections"}, nil}
			running := make([]service, len(variants))
			for i, flags := range variants {
				running[i] = services[kind](b)
				run(b, running[i].command, flags...)
				running[i].awaitAnswer(b)
				running[i].rate(b, slice) // it warms up
			}
			for b.Loop() {
				ratios := make([][]float64, len(variants))
				for round := range rounds {
					rate := make([]float64, len(variants))
					for k := range running {
						i := inTurns(round, k, len(running))
						rate[i] = running[i].rate(b, slice)
					}
					ratios[0] = append(ratios[0], rate[0])
					for i := 1; i < len(rate); i++ {
						ratios[i] = append(ratios[i], rate[i]/rate[0])
					}
				}
				report(b, "bare-requests/s", ratios[0])
				report(b, "listeners-ratio", ratios[1])
				report(b, "connections-ratio", ratios[2])
				report(b, "bare-ratio", ratios[3])
			}
		})
	}
}
