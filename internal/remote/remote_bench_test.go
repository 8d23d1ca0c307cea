package remote

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/huptime/huptime/internal/abi"
)

// BenchmarkFreeze measures a freeze and the thaw of processes with few and many threads, which sleep, and the same with a call
// in between. Reported besides is what comes to one thread.
func BenchmarkFreeze(b *testing.B) {
	for _, n := range []int{1, 50, 1000} {
		for _, call := range []bool{false, true} {
			b.Run(fmt.Sprintf("threads=%d/call=%t", n, call), func(b *testing.B) { benchmarkFreeze(b, n, call) })
		}
	}
}

func benchmarkFreeze(b *testing.B, n int, call bool) {
	pid, threads := sleeper(b, n)
	for b.Loop() {
		f, err := Freeze(pid, 5*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		if call {
			if _, err := f.Call(abi.Getpid); err != nil {
				b.Fatal(err)
			}
		}
		if len(f.Threads()) != threads {
			b.Fatalf("%d threads, not %d", len(f.Threads()), threads)
		}
		f.Thaw()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(threads), "µs/thread")
}

// sleeper runs a Python program that has exactly n threads.
func sleeper(b *testing.B, n int) (pid, threads int) {
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
	return cmd.Process.Pid, n
}
