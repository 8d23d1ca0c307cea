package suite

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// atRest is how long a supervisor sleeps without one wake-up.
const atRest = 10 * time.Second

// TestAtRest looks at supervisors of services that nothing happens to, after a restart: no thread of theirs runs, and they are
// small. The Go runtime's own monitor thread looks around once a minute (runtime.sysmon, whatever a program does), so the window is taken
// until one has none of that; there are several between two of them.
func TestAtRest(t *testing.T) {
	supervisors := make(map[string]*supervisor)
	for _, level := range levels {
		s := golang(t)
		h := s.run(t, level)
		h.hup()
		h.await("generation ready", 2)
		h.await("generation ended", 1)
		supervisors[level] = h
	}
	before := make(map[string]map[string]int)
	for level, h := range supervisors {
		before[level] = h.switches()
	}
	for limit := time.Now().Add(patience + 2*atRest); len(supervisors) > 0; {
		time.Sleep(atRest)
		for level, h := range supervisors {
			switch now := h.switches(); {
			case maps.Equal(before[level], now):
				if kB := h.status("VmRSS:"); kB == 0 || kB >= 15<<10 {
					t.Errorf("%s: resident memory of %d kB; want less than 15 MiB", level, kB)
				}
				delete(supervisors, level)
			case time.Now().After(limit):
				t.Errorf("%s: woke up in each window of %v; context switches by thread: %v, then %v", level, atRest, before[level], now)
				delete(supervisors, level)
			default:
				t.Logf("%s: woke up; context switches by thread: %v, then %v", level, before[level], now)
				before[level] = now
			}
		}
	}
}

// TestBinarySize: what is copied into images of a few megabytes must not be one itself.
func TestBinarySize(t *testing.T) {
	st, err := os.Stat(huptime)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() >= 6<<20 {
		t.Errorf("%s has %d bytes; want less than 6 MiB", huptime, st.Size())
	}
}

// switches counts how often each thread of the supervisor has come to run and stopped again.
func (s *supervisor) switches() map[string]int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.cmd.Process.Pid))
	counts := make(map[string]int)
	for _, file := range files {
		counts[filepath.Base(filepath.Dir(file))] = numberIn(file, "voluntary_ctxt_switches:") + numberIn(file, "nonvoluntary_ctxt_switches:")
	}
	return counts
}

// status reads a number of /proc/PID/status of the supervisor.
func (s *supervisor) status(name string) int {
	return numberIn(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid), name)
}

func numberIn(file, name string) (n int) {
	text, _ := os.ReadFile(file)
	_, rest, _ := strings.Cut("\n"+string(text), "\n"+name)
	fmt.Sscan(rest, &n)
	return n
}
