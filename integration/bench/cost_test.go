package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkNotifiedCalls measures what the calls cost that the filter may ask about, alone and at both levels. None of them does
// anything: a bind of a socket that is bound, an accept where nobody waits, a close of nothing.
func BenchmarkNotifiedCalls(b *testing.B) {
	const rounds, loops = 9, "5000"
	for b.Loop() {
		figures := map[string][]float64{}
		for range rounds {
			for _, variant := range []struct {
				name  string
				flags []string
			}{{"bare", nil}, {"listeners", []string{"--track=listeners"}}, {"connections", []string{"--track=connections"}}} {
				command := []string{calls, loops}
				if variant.flags != nil {
					command = append(append([]string{huptime}, variant.flags...), command...)
				}
				out, err := exec.Command(command[0], command[1:]...).Output()
				if err != nil {
					b.Fatal(err)
				}
				for line := range strings.Lines(string(out)) {
					var call string
					var ns float64
					if n, _ := fmt.Sscanf(line, "%s %f", &call, &ns); n == 2 {
						figures[call+"-"+variant.name+"-ns"] = append(figures[call+"-"+variant.name+"-ns"], ns)
					}
				}
			}
		}
		for name, values := range figures {
			_, median, _ := quartiles(values)
			b.ReportMetric(median, name)
		}
		for _, call := range []string{"getppid", "bind", "listen", "accept", "close", "unlink"} {
			cells := []string{call}
			for _, variant := range []string{"bare", "listeners", "connections"} {
				cells = append(cells, spread(figures[call+"-"+variant+"-ns"], "%.0f"))
			}
			row(b, []string{"call", "bare, ns", "listeners, ns", "connections, ns"}, cells...)
		}
	}
}

// BenchmarkAtRest reports what the supervisor costs while nothing happens: wake-ups of all its threads in 10 s, resident memory, the
// size of the binary.
func BenchmarkAtRest(b *testing.B) {
	for b.Loop() {
		s := services["go"](b)
		h := run(b, s.command, "--track=auto")
		h.await(b, "generation ready", 1)
		time.Sleep(10 * time.Second) // what follows a start is over
		before := switches(b, h.cmd.Process.Pid)
		time.Sleep(10 * time.Second)
		b.ReportMetric(float64(switches(b, h.cmd.Process.Pid)-before), "wakeups/10s")
		b.ReportMetric(float64(field(b, fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid), "VmRSS:"))/1024, "RSS-MB")
		st, err := os.Stat(huptime)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Size())/(1<<20), "binary-MB")
	}
}

// switches counts how often the threads of a process have come to run.
func switches(b *testing.B, pid int) int {
	b.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	n := 0
	for _, file := range files {
		n += field(b, file, "voluntary_ctxt_switches:") + field(b, file, "nonvoluntary_ctxt_switches:")
	}
	return n
}

func field(b *testing.B, file, name string) (value int) {
	b.Helper()
	f, err := os.Open(file)
	if err != nil {
		return 0 // the thread has ended
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			fmt.Sscan(rest, &value)
		}
	}
	return value
}
