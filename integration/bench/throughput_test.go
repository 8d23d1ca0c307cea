package bench

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkRequests compares requests a second, a connection for each, of a service alone and under huptime at both levels. All run
// all the time; slices of load go to them in turns, in one order and the other. The service runs alone twice: how far the second is from the
// first is the noise that the other ratios are to be held against. The floor is the service under a C program that asks about accept alone and lets
// it go on: what the kernel takes for that, of which the level connections can't be less. CPU time for a request, of all processes of the service and of the supervisor,
// is reported besides: others' load on the machine disturbs it less.
func BenchmarkRequests(b *testing.B) {
	const rounds, slice = 15, 400 * time.Millisecond
	variants := []struct {
		name  string
		flags []string
	}{{"bare", nil}, {"again", nil}, {"listeners", []string{"--track=listeners"}}, {"connections", []string{"--track=connections"}}, {"floor", nil}}
	for _, kind := range []string{"nginx", "redis", "node", "go", "python"} {
		b.Run(kind, func(b *testing.B) {
			running := make([]service, len(variants))
			processes := make([][]int, len(variants))
			for i, v := range variants {
				running[i] = services[kind](b)
				command := running[i].command
				if v.name == "floor" {
					command = append([]string{floor}, command...)
				}
				p := run(b, command, v.flags...)
				running[i].awaitAnswer(b)
				running[i].rate(b, kind, slice) // it warms up
				processes[i] = family(b, p.cmd.Process.Pid)
			}
			b.ResetTimer()
			for b.Loop() {
				bare := make([]float64, 0, rounds)
				ratios := make([][]float64, len(variants))
				requests := make([]int, len(variants))
				before := make([]time.Duration, len(variants))
				for i := range variants {
					before[i] = wholeTime(b, processes[i])
				}
				for round := range rounds {
					rate := make([]float64, len(variants))
					for k := range running {
						i := k
						if round%2 == 1 {
							i = len(running) - 1 - k
						}
						var n int
						n, rate[i] = running[i].rate(b, kind, slice)
						requests[i] += n
					}
					bare = append(bare, rate[0])
					for i := range variants {
						ratios[i] = append(ratios[i], rate[i]/rate[0])
					}
				}
				report(b, bare, "bare-req/s")
				for i, v := range variants[1:] {
					report(b, ratios[i+1], v.name+"-ratio")
				}
				cells := []string{kind}
				for i, v := range variants {
					each := float64((wholeTime(b, processes[i]) - before[i]).Microseconds()) / float64(requests[i])
					b.ReportMetric(each, v.name+"-cpu-µs/req")
					cells = append(cells, fmt.Sprintf("%.1f", each))
				}
				row(b, []string{"service", "bare, CPU µs a request", "bare again", "listeners", "connections", "kernel's floor"}, cells...)
				row(b, []string{"service", "bare, requests/s", "bare again", "listeners", "connections", "kernel's floor"}, kind,
					spread(bare, "%.0f"), spread(ratios[1], "%.3f"), spread(ratios[2], "%.3f"), spread(ratios[3], "%.3f"), spread(ratios[4], "%.3f"))
			}
		})
	}
}
