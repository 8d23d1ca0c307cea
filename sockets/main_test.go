package sockets

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/leak"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

// patience is how long a test waits for what must happen. What it waits for takes milliseconds.
const patience = 20 * time.Second

// The main goroutine keeps the main thread, as in the program itself: threads that are made to end (see
// edit) must not be it, and the kernel ends a launched service with the thread that forked it.
func init() { runtime.LockOSThread() }

// TestMain is three programs: a launcher (notify.Start executes this binary), a puppet, and the tests.
func TestMain(m *testing.M) {
	if notify.IsLauncher(os.Args) {
		os.Exit(notify.RunLauncher(os.Args))
	}
	if len(os.Args) == 3 && os.Args[1] == puppets.Name {
		control, err := strconv.Atoi(os.Args[2])
		if err != nil {
			os.Exit(125)
		}
		os.Exit(puppets.Run(control))
	}
	os.Exit(runTests(m))
}

var forks = make(chan func())

// onMain runs f on the main thread and waits for it.
func onMain(f func()) {
	done := make(chan struct{})
	forks <- func() { f(); close(done) }
	<-done
}

// runTests fails where a descriptor, a goroutine or a process is left.
func runTests(m *testing.M) int {
	// What the puppets leave behind is then ours to reap.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "cannot become the subreaper:", err)
		return 1
	}
	before := leak.Start()
	finished := make(chan int)
	go func() { finished <- m.Run() }() // ends with the tests, which this function waits for
	for {
		select {
		case f := <-forks:
			f()
		case status := <-finished:
			if status == 0 {
				status = leftovers(before)
			}
			return status
		}
	}
}

func leftovers(before leak.Descriptors) int {
	for _, one := range ownUnixVisits.made { // they stay open for what may accept them
		unix.Close(one.fd)
	}
	status := leak.Status(0, before)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.ECHILD {
			return status
		}
		if pid == 0 && time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "a child process was left running")
			return 1
		}
	}
}

// eventually waits for something that nobody tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
