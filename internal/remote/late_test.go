package remote

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/huptime/huptime/internal/abi"
)

// notified starts a program whose listen is notified.
func notified(t *testing.T, code abi.ABI) (*target, *listener) {
	t.Helper()
	number, _ := code.Number(abi.Listen)
	p := start(t, code, "notified", strconv.FormatInt(number, 10))
	fd, err := strconv.Atoi(p.expect("ready"))
	if err != nil {
		t.Fatal(err)
	}
	untilAsleep(t, p.Process.Pid)
	return p, p.listenerOf(fd)
}

// unchanged checks that the program is as it was: which signals its first thread has blocked, and which have handlers.
func (p *target) unchanged(before pending) {
	p.t.Helper()
	now, ok := readPending(p.Process.Pid)
	if !ok || now != before {
		p.t.Errorf("signals are %x, were %x", now, before)
	}
}

// TestFaultD5NotReceived: nobody answers the call that a process is made to run, nor has anybody received the notification. It is taken
// out of the call, and goes on as it was.
func TestFaultD5NotReceived(t *testing.T) {
	eachABI(t, func(t *testing.T, code abi.ABI) {
		p, _ := notified(t, code)
		before, _ := readPending(p.Process.Pid)
		err := With(p.Process.Pid, 5*time.Second, func(f *Frozen) error {
			if _, err := f.Call(abi.Listen, ^uintptr(0), 0); !errors.Is(err, ErrSlow) {
				t.Errorf("listen: %v", err)
			}
			// The thread is its tracer's again.
			if pid, err := f.Call(abi.Getpid); err != nil || int(pid) != p.Process.Pid {
				t.Errorf("getpid: %d, %v", pid, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		p.unchanged(before)
		p.tell()
		p.expect("done")
	})
}

// TestFaultD5NotAnswered: the notification was received, and is not answered in time: the thread can't leave the call. It is let go, as it
// was, when it is answered.
func TestFaultD5NotAnswered(t *testing.T) {
	eachABI(t, func(t *testing.T, code abi.ABI) {
		p, l := notified(t, code)
		before, _ := readPending(p.Process.Pid)
		received := make(chan uint64, 1)
		go func() { received <- l.receive() }()
		err := With(p.Process.Pid, 5*time.Second, func(f *Frozen) error {
			if _, err := f.Call(abi.Listen, ^uintptr(0), 0); !errors.Is(err, ErrSlow) {
				t.Errorf("listen: %v", err)
			}
			if _, err := f.Call(abi.Getpid); !errors.Is(err, ErrSlow) {
				t.Errorf("a call while an earlier one is not over: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		// It does not run on without its registers, and nobody takes it for one that may not be traced.
		if err := With(p.Process.Pid, time.Second, func(*Frozen) error { return nil }); !errors.Is(err, ErrSlow) {
			t.Errorf("freeze of a process with a thread that is late: %v", err)
		}
		select {
		case line, ok := <-p.lines:
			t.Fatalf("before the answer the program says %q, %v", line, ok)
		default:
		}
		p.tell()
		l.answer(<-received)
		for deadline := time.Now().Add(5 * time.Second); isLate(p.Process.Pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it was answered, and is late still")
			}
		}
		p.unchanged(before)
		p.expect("done")
	})
}

// TestFaultD5Killed: what is late can be killed, and leaves nothing behind.
func TestFaultD5Killed(t *testing.T) {
	p, l := notified(t, abi.Native)
	received := make(chan uint64, 1)
	go func() { received <- l.receive() }()
	err := With(p.Process.Pid, 5*time.Second, func(f *Frozen) error {
		_, err := f.Call(abi.Listen, ^uintptr(0), 0)
		return err
	})
	if !errors.Is(err, ErrSlow) {
		t.Errorf("listen: %v", err)
	}
	<-received
	p.Process.Kill()
	p.Process.Wait()
	for deadline := time.Now().Add(5 * time.Second); isLate(p.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is late still")
		}
	}
}

func isLate(tid int) bool {
	t, ok := claims.Load(tid)
	return ok && t.(*thread).late.Load()
}
