package bench

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkFirstAnswer measures the time from SIGHUP to the first answer of the new generation, and that from the start of
// the same service alone to its first answer. What is reported is the difference: what huptime adds.
func BenchmarkFirstAnswer(b *testing.B) {
	const pairs = 15
	for _, c := range []struct{ name, kind, flag string }{
		{"nginx", "nginx", "--fork"}, {"node", "node", "--fork"}, {"go", "go", "--fork"}, {"python", "python", "--fork"},
		{"nginx-staged", "nginx", "--stage"}, {"node-staged", "node", "--stage"}, {"go-staged", "go", "--stage"},
		{"python-staged", "python", "--stage"},
	} {
		b.Run(c.name, func(b *testing.B) {
			kind := c.kind
			for b.Loop() {
				s := services[kind](b)
				h := run(b, s.command, "--track=auto", c.flag)
				s.awaitAnswer(b)
				h.await(b, "generation ready", 1)
				var added, own []float64
				for i := range pairs {
					alone := services[kind](b)
					began := time.Now()
					p := run(b, alone.command)
					alone.awaitAnswer(b)
					start := milliseconds(time.Since(began))
					p.end()

					old := s.awaitAnswer(b)
					seen := map[string]bool{old: true}
					for range 20 { // every process of the old generation
						seen[s.awaitAnswer(b)] = true
					}
					began = time.Now()
					h.hup()
					for seen[s.awaitAnswer(b)] {
					}
					added = append(added, milliseconds(time.Since(began))-start)
					own = append(own, start)
					h.await(b, "generation ended", i+1)
				}
				report(b, own, "start-ms")
				report(b, added, "added-ms")
				row(b, []string{"service", "its own start, ms", "added by huptime, ms"}, c.name, spread(own, "%.1f"), spread(added, "%.1f"))
			}
		})
	}
}

// restartsInWindow is how many restarts there are in a window with restarts, one a second.
const restartsInWindow = 3

// restartsEverySecond restarts the service so often. The channel gets one value when that is over: why it failed, or nil.
func (p *process) restartsEverySecond(generation *int) <-chan error {
	done := make(chan error, 1)
	go func() {
		for range restartsInWindow {
			p.hup()
			*generation++
			if _, err := p.find("restart finished", *generation); err != nil {
				done <- err
				return
			}
			time.Sleep(time.Second - 100*time.Millisecond)
		}
		done <- nil
	}()
	return done
}

// BenchmarkLatency compares the latency of requests while the service is restarted once a second with that of the same load without.
func BenchmarkLatency(b *testing.B) {
	const pairs, window = 9, restartsInWindow * time.Second
	for _, c := range []struct{ name, kind, mode string }{
		{"nginx", "nginx", "--fork"}, {"go", "go", "--fork"}, {"go-exec", "go", "--exec"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				s := services[c.kind](b)
				h := run(b, s.command, "--track=auto", c.mode)
				h.await(b, "generation ready", 1)
				s.load(b, time.Second)
				generation := 1
				figures := map[string][]float64{}
				for i := range pairs {
					for k := range 2 {
						restarts := (i+k)%2 == 1
						var times []time.Duration
						if restarts {
							done := h.restartsEverySecond(&generation)
							times = s.load(b, window)
							if err := <-done; err != nil {
								b.Fatal(err)
							}
						} else {
							times = s.load(b, window)
						}
						slices.Sort(times)
						which := "quiet-"
						if restarts {
							which = "restarts-"
						}
						figures[which+"p50-ms"] = append(figures[which+"p50-ms"], quantile(times, 0.5))
						figures[which+"p99.9-ms"] = append(figures[which+"p99.9-ms"], quantile(times, 0.999))
						figures[which+"max-ms"] = append(figures[which+"max-ms"], quantile(times, 1))
					}
				}
				cells := []string{c.kind + ", " + strings.TrimPrefix(c.mode, "--")}
				for _, name := range []string{"p50-ms", "p99.9-ms", "max-ms"} {
					for _, which := range []string{"quiet-", "restarts-"} {
						report(b, figures[which+name], which+name)
						cells = append(cells, spread(figures[which+name], "%.2f"))
					}
				}
				row(b, []string{"service, mode", "p50 without, ms", "with restarts", "p99.9 without, ms", "with restarts", "longest without, ms", "with restarts"}, cells...)
			}
		})
	}
}

// BenchmarkGateProcesses measures how long it takes to gate a generation of many processes that are blocked in accept on one socket: from the line
// of the log that says that the new generation is ready to the one that says that the old one is gated.
func BenchmarkGateProcesses(b *testing.B) {
	for _, level := range []string{"listeners", "connections"} {
		for _, n := range []int{10, 1000} {
			b.Run(name(level, "/processes=", n), func(b *testing.B) {
				const restarts = 9
				for b.Loop() {
					port := freePort(b)
					s := service{[]string{prefork, strconv.Itoa(port), strconv.Itoa(n)}, local(port), askHTTP}
					h := run(b, s.command, "--track="+level)
					var took []float64
					for i := 1; i <= restarts; i++ {
						h.await(b, "generation ready", i)
						// It is ready as soon as one waits; what is measured is all of them.
						awaitChildren(b, h.await(b, "generation started", i).PID, n)
						h.hup()
						ready := h.await(b, "generation ready", i+1)
						gated := h.await(b, "generation gated", i)
						took = append(took, milliseconds(gated.Time.Sub(ready.Time)))
						h.await(b, "generation ended", i)
					}
					report(b, took, "gate-ms")
					row(b, []string{"level, processes", "gated after, ms"}, name(level, ", ", n), spread(took, "%.1f"))
				}
			})
		}
	}
}

// awaitChildren waits until a process has so many.
func awaitChildren(b *testing.B, pid, n int) {
	b.Helper()
	file := fmt.Sprintf("/proc/%d/task/%d/children", pid, pid) // proc_pid_task(5), CONFIG_PROC_CHILDREN
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		have := len(strings.Fields(string(text)))
		if have == n {
			return
		}
		if time.Now().After(limit) {
			b.Fatalf("process %d has %d children, not %d", pid, have, n)
		}
	}
}
