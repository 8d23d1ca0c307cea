package proc

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEnding: what a process that has ended, and was not waited for, leaves is root's; who could look into it must not
// take it for another user's. Not parallel: to change a thread's user makes the whole process undumpable.
func TestEnding(t *testing.T) {
	const nobody = 65534
	root := os.Geteuid() == 0
	cmd := exec.Command("true")
	if root {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	until(t, "a zombie", func() bool { st, err := ReadStat(pid); return err == nil && st.State == 'Z' && st.Exiting })
	done := make(chan struct{})
	go func() { // ends with its thread, which is spoilt for other use: no UnlockOSThread
		defer close(done)
		runtime.LockOSThread()
		if root {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				t.Errorf("setresuid: %v", errno)
				return
			}
		}
		if holders, opaque := Holders([]int{pid}, nil); len(holders) != 0 || len(opaque) != 0 {
			t.Errorf("%v, opaque %v", holders, opaque)
		}
		for name, read := range map[string]func() error{
			"Descriptors":      func() error { _, err := Descriptors(pid); return err },
			"DescriptorSocket": func() error { _, _, err := DescriptorSocket(pid, 0); return err },
			"ReadFDInfo":       func() error { _, err := ReadFDInfo(pid, 0); return err },
			"ReadSyscall":      func() error { _, err := ReadSyscall(pid, pid); return err },
			"ABI":              func() error { _, err := ABI(pid); return err },
		} {
			if err := read(); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}()
	<-done
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Error(err)
	}
}

// TestGoneSinceItEnded: a process that was ending when a file of its was denied, and is gone when that is looked into, is
// gone, and not one that may not be looked into. (PostgreSQL's are that short-lived: once in some hundred restarts its
// old generation was stopped at once for one.)
func TestGoneSinceItEnded(t *testing.T) {
	t.Parallel()
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path(c.Process.Pid, "/fd"), threadPath(c.Process.Pid, c.Process.Pid, "/syscall")} {
		if err := cannotRead(name, unix.EACCES); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	if err := cannotRead(path(os.Getpid(), "/fd"), unix.EACCES); errors.Is(err, os.ErrNotExist) {
		t.Error("of a process that lives:", err)
	}
}
