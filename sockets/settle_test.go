package sockets

import (
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/huptime/huptime/internal/remote"
)

// TestUntilSettled: a thread that is frozen is waited for, and for how long it is frozen; one that sleeps, or is at
// work, is not.
func TestUntilSettled(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleeper.Wait()
	defer sleeper.Process.Kill()
	pid := sleeper.Process.Pid
	settles := func() chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			untilSettled([]int{pid, os.Getpid()}, func(int) {})
		}()
		return done
	}
	var stop atomic.Bool
	defer stop.Store(true)
	go func() { // at work
		for !stop.Load() {
		}
	}()
	began := time.Now()
	<-settles()
	if took := time.Since(began); took >= settleLimit {
		t.Errorf("waited %s for threads that are not on their way", took)
	}
	f, err := remote.Freeze(pid, freezeLimit)
	if err != nil {
		t.Fatal(err)
	}
	done := settles()
	select {
	case <-done:
		t.Error("did not wait for a frozen thread")
	case <-time.After(50 * time.Millisecond): // as long as a wrong end would take
	}
	f.Thaw()
	<-done
}
