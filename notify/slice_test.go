package notify

import (
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShortSlice is of the thread that answers: its turns are short, those of a child that it starts are not, and neither are its own
// once it is done.
func TestShortSlice(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	slice := func(pid int) uint64 {
		t.Helper()
		attr, err := unix.SchedGetAttr(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		return attr.Runtime
	}
	before := slice(0)
	restore := askShortSlice()
	if before == 0 {
		t.Skip("unsupported here: sched_getattr tells no slice (Linux before 6.12)")
	}
	if got := slice(0); got != shortSlice {
		t.Errorf("the thread's slice is %d ns, not %d", got, shortSlice)
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { child.Process.Kill(); child.Wait() }()
	if got := slice(child.Process.Pid); got != before {
		t.Errorf("a child's slice is %d ns, not %d", got, before)
	}
	restore()
	if got := slice(0); got != before {
		t.Errorf("the slice is %d ns after all, not %d", got, before)
	}
}
