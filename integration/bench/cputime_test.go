package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// cpuTime is what the threads of a process have run so far. Those that have ended do not count; the supervisor's live long.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if len(files) == 0 {
		b.Skip("unsupported here: the kernel has no /proc/PID/schedstat")
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		var ns int64
		fmt.Sscan(strings.TrimSpace(string(text)), &ns)
		sum += time.Duration(ns)
	}
	return sum
}

// wholeTime is what processes have run so far, with the threads that have ended. The kernel tells it in ticks, so it is for long stretches of time.
func wholeTime(b *testing.B, pids []int) (sum time.Duration) {
	b.Helper()
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere (proc_pid_stat(5))
	for _, pid := range pids {
		fields := stat(pid)
		if len(fields) < 13 {
			b.Fatalf("process %d has ended", pid)
		}
		var user, system int64
		fmt.Sscan(fields[11], &user)
		fmt.Sscan(fields[12], &system)
		sum += time.Duration(user+system) * tick
	}
	return sum
}

// family lists a process and all that descend from it.
func family(b *testing.B, pid int) []int {
	b.Helper()
	parents := map[int]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		var id, parent int
		fmt.Sscan(filepath.Base(dir), &id)
		if fields := stat(id); len(fields) > 1 {
			fmt.Sscan(fields[1], &parent)
			parents[id] = parent
		}
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		for id, parent := range parents {
			if parent == all[i] && !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	return all
}

// stat returns the fields of /proc/PID/stat behind the name, which may have blanks; nothing of a process that is gone.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}
