package remote

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"huptime/internal/abi"
)

// BenchmarkFreeze measures a freeze and its thaw, of processes with few and many threads, which sleep; and the same with one call between. Reported are
// medians, with quartiles, and what comes to one thread: on a shared machine a few freezes that others held up would be most of a mean.
func BenchmarkFreeze(b *testing.B) {
	for _, n := range []int{1, 50, 1000} {
		for _, calls := range []int{0, 1} {
			b.Run(fmt.Sprintf("threads=%d/calls=%d", n, calls), func(b *testing.B) {
				pid := sleeper(b, n)
				var took []time.Duration
				for b.Loop() {
					began := time.Now()
					f, err := Freeze(pid, 5*time.Second)
					if err != nil {
						b.Fatal(err)
					}
					for range calls {
						if _, err := f.Call(abi.Getpid); err != nil {
							b.Fatal(err)
						}
					}
					threads := len(f.Threads())
					f.Thaw()
					took = append(took, time.Since(began))
					if threads != n {
						b.Fatalf("%d threads, not %d", threads, n)
					}
				}
				slices.Sort(took)
				quartile := func(i int) float64 { return float64(took[min(i*len(took)/4, len(took)-1)].Nanoseconds()) / 1e3 }
				b.ReportMetric(quartile(2), "median-µs")
				b.ReportMetric(quartile(1), "q1-µs")
				b.ReportMetric(quartile(3), "q3-µs")
				b.ReportMetric(quartile(2)/float64(n), "median-µs/thread")
			})
		}
	}
}

// sleeper runs a Python program that has exactly n threads.
func sleeper(b *testing.B, n int) (pid int) {
	b.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		b.Skip("unsupported here: no python3: run make deps")
	}
	const script = `import sys, threading
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()`
	cmd := exec.Command(python, "-c", script, fmt.Sprint(n))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 16)); err != nil {
		b.Fatal(err)
	}
	return cmd.Process.Pid
}
