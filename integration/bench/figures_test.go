package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
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

// watchOthers measures how much of the machine others use, now and when the function that it returns is called: whatever of the benchmark's
// own runs then must be idle. The greater of both is reported: figures of a busy machine are worth less.
func watchOthers(b *testing.B) (report func()) {
	before := busy()
	return func() { b.ReportMetric(100*max(before, busy()), "others-busy-%") }
}

// busy returns which part of the machine's CPU time is used, from 0 to 1, in half a second.
func busy() float64 {
	spent := func() (all, idle float64) {
		text, _ := os.ReadFile("/proc/stat")
		first, _, _ := strings.Cut(string(text), "\n")
		for i, word := range strings.Fields(first)[1:] {
			n, _ := strconv.ParseFloat(word, 64)
			if i >= 8 { // guest and guest_nice are in user and nice already (proc_stat(5))
				break
			}
			all += n
			if i == 3 || i == 4 { // idle, iowait
				idle += n
			}
		}
		return all, idle
	}
	all, idle := spent()
	time.Sleep(500 * time.Millisecond)
	all2, idle2 := spent()
	if all2 == all {
		return 0
	}
	return 1 - (idle2-idle)/(all2-all)
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
