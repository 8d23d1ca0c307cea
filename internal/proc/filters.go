package proc

import (
	"bytes"
	"fmt"
	"slices"
)

// Filters tells how many seccomp filters a thread runs under: "Seccomp_filters:" of /proc/TID/status (Linux 5.9), proc_pid_status(5); for a process
// id, its first thread. It is 0 where the kernel does not tell. Filters are inherited at fork, and never taken off.
func Filters(tid int) (int, error) {
	name := path(tid, "/status")
	var buf [4096]byte
	b, err := readAll(name, buf[:])
	if err != nil {
		return 0, err
	}
	n, err := parseFilters(b)
	if err != nil {
		return 0, cannotRead(name, err)
	}
	return n, nil
}

func parseFilters(b []byte) (int, error) {
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); !bytes.HasPrefix(l, []byte("Seccomp_filters:")) {
			continue
		}
		value, _ := word(l[len("Seccomp_filters:"):])
		n, rest, ok := signed(value)
		if !ok || n < 0 || len(rest) != 0 {
			return 0, fmt.Errorf("%w: Seccomp_filters %q", ErrFormat, value)
		}
		return n, nil
	}
	return 0, nil
}

// Unstoppable tells whether a thread of the process sleeps where no stop reaches it, as one does that has called vfork until its child
// has executed something else: state D. It is a look at one moment.
func Unstoppable(pid int) bool {
	tids, err := Threads(pid)
	return err == nil && slices.ContainsFunc(tids, func(tid int) bool {
		state, err := ThreadState(pid, tid)
		return err == nil && state == 'D'
	})
}
