package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkNotifiedCalls measures what the calls cost that the filter may ask about, alone and at each level. None of them does
// anything: a bind of a socket that is bound, an accept where nobody waits, a close of nothing, a connect that is refused. The last two
// variants have a socket that they could claim, of which connect is asked about.
func BenchmarkNotifiedCalls(b *testing.B) {
	const rounds, loops = 9, "5000"
	for b.Loop() {
		figures := map[string][]float64{}
		for range rounds {
			for _, variant := range []struct {
				name  string
				flags []string
			}{{"bare", nil}, {"listeners", []string{"--track=listeners"}}, {"connections", []string{"--track=connections"}}, {"calls", []string{"--track=calls"}},
				{"unix", []string{"--track=listeners", "--listen=unix://" + b.TempDir() + "/s"}}, {"tcp", []string{"--track=listeners", "--listen=tcp://127.0.0.1:" + strconv.Itoa(freePort(b))}}} {
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
		for _, call := range []string{"getppid", "bind", "listen", "accept", "close", "connect", "connect-unix", "unlink"} {
			cells := []string{call}
			for _, variant := range []string{"bare", "listeners", "connections", "calls", "unix", "tcp"} {
				cells = append(cells, spread(figures[call+"-"+variant+"-ns"], "%.0f"))
			}
			row(b, []string{"call", "bare, ns", "listeners, ns", "connections, ns", "calls, ns", "listeners, a unix socket to claim, ns", "listeners, a TCP socket to claim and nobody serves, ns"}, cells...)
		}
	}
}

// BenchmarkAtRest reports what the supervisor costs while nothing happens: wake-ups of all its threads in 10 s, resident memory, the
// size of the binary. Go's runtime looks after itself once in a minute or two, hence several windows; the test of the suite
// waits for one without any.
func BenchmarkAtRest(b *testing.B) {
	const windows, window = 3, 10 * time.Second
	for _, level := range []string{"listeners", "connections"} {
		b.Run(level, func(b *testing.B) {
			for b.Loop() {
				s := services["go"](b)
				h := run(b, s.command, "--track="+level)
				pid := h.cmd.Process.Pid
				h.await(b, "generation ready", 1)
				h.hup()
				h.await(b, "generation ended", 1)
				time.Sleep(window / 2) // what follows a restart is over
				var each []float64
				var list []string
				for range windows {
					before := switches(b, pid)
					time.Sleep(window)
					n := switches(b, pid) - before
					each = append(each, float64(n))
					list = append(list, fmt.Sprint(n))
				}
				report(b, each, "wakeups/10s")
				memory := float64(field(b, fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")) / 1024
				b.ReportMetric(memory, "RSS-MiB")
				st, err := os.Stat(huptime)
				if err != nil {
					b.Fatal(err)
				}
				size := float64(st.Size()) / (1 << 20)
				b.ReportMetric(size, "binary-MiB")
				row(b, []string{"level", "wake-ups in 10 s, three times", "resident, MiB", "binary, MiB"}, level, strings.Join(list, ", "),
					fmt.Sprintf("%.1f", memory), fmt.Sprintf("%.1f", size))
			}
		})
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
