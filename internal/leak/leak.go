// Package leak lets a test binary fail that leaves something behind: goroutines and descriptors. Only tests use it.
package leak

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Descriptors are open descriptors of this process by their numbers, with what their links say (proc_pid_fd(5)).
type Descriptors map[int]string

// Open lists those that are open now. It leaves out what it opens itself.
func Open() Descriptors {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	open := make(Descriptors)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd == int(dir.Fd()) {
			continue
		}
		if link, err := os.Readlink("/proc/self/fd/" + name); err == nil {
			open[fd] = link
		}
	}
	return open
}

// Since lists what is open that was not open before, or is something else now, a line each.
func Since(before Descriptors) []string {
	var left []string
	now := Open()
	numbers := make([]int, 0, len(now))
	for fd := range now {
		numbers = append(numbers, fd)
	}
	slices.Sort(numbers)
	for _, fd := range numbers {
		if before[fd] != now[fd] {
			left = append(left, fmt.Sprintf("descriptor %d was left open: %s", fd, now[fd]))
		}
	}
	return left
}

// Start makes the Go runtime open what it keeps open anyway, so that it is no leak later, and returns what is open then.
func Start() Descriptors {
	// The poller, and pidfds: the os package tries once whether it can have them.
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) == nil {
		for _, fd := range p {
			_ = os.NewFile(uintptr(fd), "pipe").Close()
		}
	}
	return Open()
}

// Status is the exit status of a test binary: that of its tests, or 1 where they have left something behind, which is
// written to standard error.
func Status(tests int, before Descriptors) int {
	if tests != 0 {
		return tests
	}
	status := 0
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	for _, line := range Since(before) {
		fmt.Fprintln(os.Stderr, line)
		status = 1
	}
	return status
}

// Run runs the tests and returns the exit status.
func Run(tests interface{ Run() int }) int {
	before := Start()
	return Status(tests.Run(), before)
}
