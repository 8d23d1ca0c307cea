package bench

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkGateProcesses measures how long it takes to gate a generation of many processes that are blocked in accept on one socket: from the line
// of the log that says that the new generation is ready to the one that says that the old one is gated.
func BenchmarkGateProcesses(b *testing.B) {
	const restarts = 9
	for _, level := range []string{"listeners", "connections"} {
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/processes=%d", level, n), func(b *testing.B) {
				defer watchOthers(b)()
				for b.Loop() {
					port := freePort(b)
					h := run(b, []string{prefork, strconv.Itoa(port), strconv.Itoa(n)}, "--track="+level)
					var took []float64
					for i := 1; i <= restarts; i++ {
						h.await(b, "generation ready", i)
						awaitChildren(b, h.await(b, "generation started", i).PID, n)
						h.hup()
						// The new one forks its workers while the old one is gated, as services do.
						ready := h.await(b, "generation ready", i+1)
						gated := h.await(b, "generation gated", i)
						took = append(took, milliseconds(gated.Time.Sub(ready.Time)))
						h.await(b, "generation ended", i)
					}
					report(b, "gate-ms", took)
				}
			})
		}
	}
}

// awaitChildren waits until a process has so many.
func awaitChildren(b *testing.B, pid, n int) {
	b.Helper()
	file := fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		if len(strings.Fields(string(text))) == n {
			return
		}
		if time.Now().After(limit) {
			b.Fatalf("process %d has not got %d children", pid, n)
		}
	}
}

// BenchmarkDrain measures the supervisor's CPU time while it waits for the connections of a gated generation: all of it, that of the polls and of
// the looks for processes that were born meanwhile. It settles at one poll each 200 ms.
func BenchmarkDrain(b *testing.B) {
	const windows, window, interval = 9, time.Second, 200 * time.Millisecond
	for _, n := range []int{1, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("connections=%d", n), func(b *testing.B) {
			defer watchOthers(b)()
			for b.Loop() {
				s := services["go"](b)
				h := run(b, s.command, "--track=auto")
				s.awaitAnswer(b)
				for range n {
					c, err := net.Dial("tcp", s.addr)
					if err != nil {
						b.Fatal(err)
					}
					defer c.Close()
				}
				s.awaitAnswer(b) // whoever answers now has accepted all of them
				h.restart(b, 2)
				if e := h.await(b, "generation gated", 1); e.Connections != n {
					b.Fatalf("%d connections, want %d", e.Connections, n)
				}
				time.Sleep(window) // the intervals grow to their longest
				var each []float64
				for range windows {
					before, began := cpu(h.cmd.Process.Pid), time.Now()
					time.Sleep(window)
					busy, took := cpu(h.cmd.Process.Pid)-before, float64(time.Since(began))
					// A poll takes its own time besides the interval.
					each = append(each, busy/1e6/((took-busy)/float64(interval)))
				}
				report(b, "CPU-ms/poll", each)
			}
		})
	}
}
