package suite

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAtRest: a supervisor whose service needs nothing of it does not run at all, neither after the start nor after a restart. What Go's
// runtime does by itself, once in a minute or two, makes no difference to a window of ten seconds.
func TestAtRest(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		h := s.run(t, level)
		h.hup()
		h.await("generation ended", 1)
		s.mustAnswer(t)
		awaitRest(t, h, 10*time.Second)
	})
}

// TestSize: huptime is copied into images of a few megabytes, and runs beside services that have no more.
func TestSize(t *testing.T) {
	st, err := os.Stat(huptime)
	if err != nil {
		t.Fatal(err)
	}
	// 5 of them are TLS and HTTP/2 for --ready=https:// and grpc://.
	if st.Size() >= 10<<20 {
		t.Errorf("%s has %d bytes; want less than 10 MiB", huptime, st.Size())
	}
	eachLevel(t, func(t *testing.T, level string) {
		s := golang(t)
		h := s.run(t, level)
		h.hup()
		h.await("generation ended", 1)
		status, err := os.ReadFile("/proc/" + strconv.Itoa(h.cmd.Process.Pid) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "\nVmRSS:")
		resident, _, _ := strings.Cut(rest, " kB")
		if kB, err := strconv.Atoi(strings.TrimSpace(resident)); err != nil || kB >= 15<<10 {
			t.Errorf("resident memory of %q kB, %v; want less than 15 MiB", resident, err)
		}
	})
}

// awaitRest waits for a stretch of time in which no thread of huptime comes to run.
func awaitRest(t *testing.T, h *supervisor, stretch time.Duration) {
	t.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	last, since := switches(t, h), time.Now()
	var seen []string
	for limit := time.Now().Add(time.Minute + stretch); time.Since(since) < stretch; {
		if time.Now().After(limit) {
			t.Fatalf("huptime wakes up without cause; switches of its threads, in all, when they changed: %s", strings.Join(seen, " "))
		}
		<-tick.C
		if now := switches(t, h); now != last {
			last, since = now, time.Now()
			seen = append(seen, strconv.Itoa(now))
		}
	}
}

// switches counts how often the threads of huptime have been switched from, of their own accord or not (proc_pid_status(5)): one that does not
// run can't be.
func switches(t *testing.T, h *supervisor) int {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(h.cmd.Process.Pid) + "/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatalf("huptime has no threads: %v", err)
	}
	sum := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended, which changes the sum as well
		}
		for line := range strings.Lines(string(text)) {
			if _, n, ok := strings.Cut(line, "ctxt_switches:"); ok {
				k, err := strconv.Atoi(strings.TrimSpace(n))
				if err != nil {
					t.Fatalf("%s: %q", file, line)
				}
				sum += k
			}
		}
	}
	return sum
}
