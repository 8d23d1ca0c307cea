package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// report reports the median of figures and their quartiles under a name.
func report(b *testing.B, name string, values []float64) {
	b.Helper()
	q1, median, q3 := quartiles(values)
	b.ReportMetric(0, "ns/op") // how long the benchmark took is no figure
	b.ReportMetric(median, name)
	if len(values) > 1 {
		b.ReportMetric(q1, name+"-q1")
		b.ReportMetric(q3, name+"-q3")
	}
}

// quartiles returns them with the median between, all interpolated.
func quartiles(values []float64) (q1, median, q3 float64) {
	sorted := slices.Sorted(slices.Values(values))
	at := func(q float64) float64 {
		x := q * float64(len(sorted)-1)
		i := int(x)
		if i+1 >= len(sorted) {
			return sorted[len(sorted)-1]
		}
		return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
	}
	return at(0.25), at(0.5), at(0.75)
}

// inTurns says who is k-th of n in a round: forwards in one and backwards in the next, so that whatever drifts meets all alike.
func inTurns(round, k, n int) int {
	if round%2 == 1 {
		return n - 1 - k
	}
	return k
}

// switches counts how often the threads of a process have come to run and stopped again.
func switches(pid int) (n int) {
	for _, file := range tasks(pid, "status") {
		n += field(file, "voluntary_ctxt_switches:") + field(file, "nonvoluntary_ctxt_switches:")
	}
	return n
}

// cpu is how many nanoseconds the threads of a process have run (schedstat, Documentation/scheduler/sched-stats.rst).
func cpu(pid int) (ns float64) {
	for _, file := range tasks(pid, "schedstat") {
		var ran float64
		text, _ := os.ReadFile(file)
		fmt.Sscan(string(text), &ran)
		ns += ran
	}
	return ns
}

func tasks(pid int, file string) []string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", pid, file))
	return files
}

// field reads the number behind a name in a file of /proc; 0 where the thread has ended.
func field(file, name string) (n int) {
	text, _ := os.ReadFile(file)
	_, rest, _ := strings.Cut("\n"+string(text), "\n"+name)
	fmt.Sscan(rest, &n)
	return n
}
