package bench

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// BenchmarkNotifiedCalls measures what the calls cost that the filter may ask about: alone, and what each level adds. None of them does
// anything: a bind of a socket that is bound, an accept where nobody waits, a close of nothing. getppid is one that is never asked about.
func BenchmarkNotifiedCalls(b *testing.B) {
	const rounds, loops = 11, 4000
	levels := []string{"", "listeners", "connections"}
	for _, call := range []string{"getppid", "bind", "listen", "accept", "close", "unlink"} {
		b.Run(call, func(b *testing.B) {
			defer watchOthers(b)()
			for b.Loop() {
				var bare []float64
				added := make(map[string][]float64)
				for round := range rounds {
					took := make(map[string]float64)
					for k := range levels {
						level := levels[inTurns(round, k, len(levels))]
						took[level] = timeCalls(b, level, call, loops)
					}
					bare = append(bare, took[""])
					for _, level := range levels[1:] {
						added[level] = append(added[level], took[level]-took[""])
					}
				}
				report(b, "bare-ns", bare)
				report(b, "listeners-adds-ns", added["listeners"])
				report(b, "connections-adds-ns", added["connections"])
			}
		})
	}
}

// timeCalls returns nanoseconds a call, alone where level is empty.
func timeCalls(b *testing.B, level, call string, n int) (ns float64) {
	b.Helper()
	command := []string{calls, call, fmt.Sprint(n)}
	if level != "" {
		command = append([]string{huptime, "--track=" + level}, command...)
	}
	out, err := exec.Command(command[0], command[1:]...).Output()
	if err != nil {
		b.Fatalf("%q: %v", command, err)
	}
	if _, err := fmt.Sscan(string(out), &ns); err != nil {
		b.Fatalf("%q printed %q", command, out)
	}
	return ns
}

// BenchmarkAtRest reports what the supervisor costs while nothing happens, a restart behind it: wake-ups of all its threads in 10 s, resident
// memory, the size of the binary.
func BenchmarkAtRest(b *testing.B) {
	const windows, window = 3, 10 * time.Second
	defer watchOthers(b)()
	for b.Loop() {
		s := services["go"](b)
		h := run(b, s.command, "--track=auto")
		h.restart(b, 2)
		h.await(b, "generation ended", 1)
		pid := h.cmd.Process.Pid
		var woken, resident []float64
		for range windows {
			before := switches(pid)
			time.Sleep(window)
			woken = append(woken, float64(switches(pid)-before))
			resident = append(resident, float64(field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:"))/1024)
		}
		st, err := os.Stat(huptime)
		if err != nil {
			b.Fatal(err)
		}
		report(b, "wakeups-in-10s", woken)
		report(b, "resident-MiB", resident)
		report(b, "binary-MiB", []float64{float64(st.Size()) / (1 << 20)})
	}
}
