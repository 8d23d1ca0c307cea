package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// variant is a way to run a service.
type variant struct {
	name  string
	under []string // what stands before the command, where it is not huptime
	flags []string // of huptime; nil without it
}

// variants are compared. The service runs alone twice: how far the second is from the first is the noise that the other ratios are to be held against.
var variants = []variant{{name: "bare"}, {name: "bare again"}, {name: "listeners", flags: []string{"--track=listeners"}},
	{name: "connections", flags: []string{"--track=connections"}}, {name: "calls", flags: []string{"--track=calls"}},
	{name: "staged", flags: []string{"--track=listeners", "--stage"}}}

// BenchmarkRequests compares requests a second, a connection for each, of a service alone and under huptime at each level, with clients in C
// that leave the service as much of the machine as clients can: what huptime costs is then largest. The floor is the service under a C program that
// asks about accept alone and lets it go on: what the kernel takes for that, of which the level connections can't be less.
func BenchmarkRequests(b *testing.B) {
	with := append(slices.Clone(variants), variant{name: "kernel's floor", under: []string{floor}})
	compareRates(b, with, func(s service, kind string, d time.Duration) (int, float64) { return s.rate(b, kind, d) })
}

// BenchmarkRequestsGoClients is the same with ordinary clients, written in Go, which work about as much for a request as the service does.
func BenchmarkRequestsGoClients(b *testing.B) {
	compareRates(b, variants, func(s service, _ string, d time.Duration) (int, float64) {
		began := time.Now()
		n := len(s.load(b, d))
		return n, float64(n) / time.Since(began).Seconds()
	})
}

// compareRates runs each service in all variants at the same time; slices of load go to them in turns, in one order and the other.
// CPU time for a request, of all processes of the service and of the supervisor, is reported besides: others' load on the machine disturbs it less.
func compareRates(b *testing.B, variants []variant, rate func(s service, kind string, d time.Duration) (requests int, perSecond float64)) {
	const rounds, slice = 15, 400 * time.Millisecond
	for _, kind := range []string{"nginx", "redis", "node", "go", "python"} {
		b.Run(kind, func(b *testing.B) {
			running := make([]service, len(variants))
			processes := make([][]int, len(variants))
			for i, v := range variants {
				running[i] = services[kind](b)
				p := run(b, append(slices.Clone(v.under), running[i].command...), v.flags...)
				running[i].awaitAnswer(b)
				rate(running[i], kind, slice) // it warms up
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
					rates := make([]float64, len(variants))
					for k := range running {
						i := k
						if round%2 == 1 {
							i = len(running) - 1 - k
						}
						var n int
						n, rates[i] = rate(running[i], kind, slice)
						requests[i] += n
					}
					bare = append(bare, rates[0])
					for i := range variants {
						ratios[i] = append(ratios[i], rates[i]/rates[0])
					}
				}
				report(b, bare, "bare-req/s")
				times, ofRate := []string{kind}, []string{kind, spread(bare, "%.0f")}
				timesHead, rateHead := []string{"service"}, []string{"service", "bare, requests/s"}
				for i, v := range variants {
					each := float64((wholeTime(b, processes[i]) - before[i]).Microseconds()) / float64(requests[i])
					b.ReportMetric(each, metric(v.name)+"-cpu-µs/req")
					times, timesHead = append(times, fmt.Sprintf("%.1f", each)), append(timesHead, v.name+", CPU µs a request")
					if i > 0 {
						report(b, ratios[i], metric(v.name)+"-ratio")
						ofRate, rateHead = append(ofRate, spread(ratios[i], "%.3f")), append(rateHead, v.name)
					}
				}
				row(b, rateHead, ofRate...)
				row(b, timesHead, times...)
			}
		})
	}
}

// metric is a variant's name as b.ReportMetric takes it, without blanks.
func metric(name string) string { return strings.ReplaceAll(name, " ", "-") }
