package bench

import (
	"testing"
	"time"
)

// BenchmarkFirstAnswer measures the time from SIGHUP to the first answer of the new generation, and that from the start of
// the same service alone to its first answer. What is reported is the difference: what huptime adds.
func BenchmarkFirstAnswer(b *testing.B) {
	const pairs = 15
	for _, kind := range []string{"nginx", "node", "go", "python"} {
		b.Run(kind, func(b *testing.B) {
			defer watchOthers(b)()
			for b.Loop() {
				s, alone := services[kind](b), services[kind](b)
				h := run(b, s.command, "--track=auto")
				s.awaitAnswer(b)
				h.await(b, "generation ready", 1)
				var added, own []float64
				for i := range pairs {
					var start, restart float64
					for k := range 2 {
						if inTurns(i, k, 2) == 0 {
							start = firstAnswer(b, alone)
						} else {
							restart = firstAnswerAfter(b, h, s)
							h.await(b, "generation ended", i+1)
						}
					}
					own = append(own, start)
					added = append(added, restart-start)
				}
				report(b, "start-ms", own)
				report(b, "added-ms", added)
			}
		})
	}
}

// firstAnswer is of the service alone, which has ended when this returns.
func firstAnswer(b *testing.B, s service) (ms float64) {
	b.Helper()
	began := time.Now()
	p := run(b, s.command)
	s.awaitAnswer(b)
	took := time.Since(began)
	p.end()
	return milliseconds(took)
}

// firstAnswerAfter a restart is that of a process that has not answered before it.
func firstAnswerAfter(b *testing.B, h *process, s service) (ms float64) {
	b.Helper()
	old := make(map[string]bool)
	for range 30 { // every worker of the old generation
		old[s.awaitAnswer(b)] = true
	}
	began := time.Now()
	h.hup()
	for old[s.awaitAnswer(b)] {
	}
	return milliseconds(time.Since(began))
}

// BenchmarkLatency compares the latency of requests while the service is restarted once a second with that of the same load without.
func BenchmarkLatency(b *testing.B) {
	const pairs, restarts = 9, 3
	const window = restarts * time.Second
	for _, c := range []struct{ name, kind, mode string }{
		{"nginx", "nginx", "--fork"}, {"go", "go", "--fork"}, {"go-exec", "go", "--exec"},
	} {
		b.Run(c.name, func(b *testing.B) {
			defer watchOthers(b)()
			for b.Loop() {
				s := services[c.kind](b)
				h := run(b, s.command, "--track=auto", c.mode)
				h.await(b, "generation ready", 1)
				s.latencies(b, time.Second) // it warms up
				generation := 1
				figures := make(map[string][]float64)
				for i := range pairs {
					for k := range 2 {
						var which string
						var times []time.Duration
						if inTurns(i, k, 2) == 0 {
							which, times = "quiet-", s.latencies(b, window)
						} else {
							done := make(chan error, 1)
							go func() { done <- h.restarts(generation, restarts, time.Second) }() // ends before the window is counted
							which, times = "restarts-", s.latencies(b, window)
							if err := <-done; err != nil {
								b.Fatal(err)
							}
							generation += restarts
						}
						for name, q := range map[string]float64{"p50-ms": 0.5, "p99.9-ms": 0.999, "max-ms": 1} {
							figures[which+name] = append(figures[which+name], quantile(times, q))
						}
					}
				}
				for name, values := range figures {
					report(b, name, values)
				}
			}
		})
	}
}

// restarts restarts a service n times, one each interval, the first a little after now. Generation is the one that serves.
func (p *process) restarts(generation, n int, interval time.Duration) error {
	next := time.NewTimer(interval / 10)
	defer next.Stop()
	for i := 1; i <= n; i++ {
		<-next.C
		next.Reset(interval)
		p.hup()
		if _, err := p.line("restart finished", generation+i); err != nil {
			return err
		}
	}
	return nil
}
