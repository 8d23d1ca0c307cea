package proc

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

// child starts a process that does nothing until the test is over (cat, which waits for the end of its input), and returns when it runs.
func child(t *testing.T, attr *unix.SysProcAttr) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, os.ErrPermission) {
		t.Skipf("cannot start such a process here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// gone returns the id of a process that was and is no more.
func gone(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// until waits for something that the kernel is about to do and tells nobody of.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// blockedThread returns the id of a thread of this process that is blocked in read(2) of fd until the test is over.
func blockedThread(t *testing.T) (tid, fd int) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	tids, done := make(chan int), make(chan struct{})
	go func() { // ends when the test closes the pipe's other end
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tids <- unix.Gettid()
		var b [1]byte
		_, _ = unix.Read(pipe[0], b[:])
	}()
	t.Cleanup(func() {
		_ = unix.Close(pipe[1])
		<-done
		_ = unix.Close(pipe[0])
	})
	return <-tids, pipe[0]
}
