package notify

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/leak"
	"github.com/huptime/huptime/internal/puppets"
)

// patience is how long a test waits for what must happen. What it waits for takes milliseconds.
const patience = 20 * time.Second

// The main goroutine keeps the main thread, as in the program itself: the kernel ends a launched service with
// the thread that forked it.
func init() { runtime.LockOSThread() }

// TestMain is several programs: a launcher (Start executes this binary), a puppet, a small supervisor, one that
// says what it inherits, and the tests.
func TestMain(m *testing.M) {
	if IsLauncher(os.Args) {
		os.Exit(RunLauncher(os.Args))
	}
	if len(os.Args) == 3 && os.Args[1] == puppets.Name {
		control, err := strconv.Atoi(os.Args[2])
		if err != nil {
			os.Exit(125)
		}
		os.Exit(puppets.Run(control))
	}
	if len(os.Args) > 2 && os.Args[1] == supervisorName {
		os.Exit(runSupervisor(os.Args[2:]))
	}
	if len(os.Args) == 2 && os.Args[1] == inheritorName {
		os.Exit(runInheritor())
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
	// With the race detector every program that ends would otherwise sleep for a second.
	if err := os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0")); err != nil {
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
