package proc

import (
	"fmt"
	"strconv"
	"time"
)

// RunTime tells for how long a thread has run on a processor: the first number of /proc/PID/task/TID/schedstat, in nanoseconds
// (Documentation/scheduler/sched-stats.rst). Of one that runs it is as of its last clock tick, some milliseconds ago. It is an error where the
// kernel was built without it (CONFIG_SCHED_INFO), or the thread is gone.
func RunTime(pid, tid int) (time.Duration, error) {
	name := path(pid, "/task/"+strconv.Itoa(tid)+"/schedstat")
	var buf [128]byte
	b, err := readStart(name, buf[:])
	if err != nil {
		return 0, err
	}
	return parseRunTime(b)
}

func parseRunTime(b []byte) (time.Duration, error) {
	if n, rest, ok := signed(b); ok && n >= 0 && len(rest) > 0 && rest[0] == ' ' {
		return time.Duration(n), nil
	}
	return 0, fmt.Errorf("%w: no run time in schedstat", ErrFormat)
}
