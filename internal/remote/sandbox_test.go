package remote

import (
	"errors"
	"testing"
	"time"

	"github.com/huptime/huptime/internal/abi"
)

// TestFaultD3Thread: where the first thread has a seccomp filter of its own, another one makes the call.
func TestFaultD3Thread(t *testing.T) {
	eachABI(t, func(t *testing.T, code abi.ABI) {
		p := start(t, code, "restricted")
		p.expect("ready")
		if Sandboxed(p.Process.Pid) {
			t.Error("a process with an unrestricted thread is said to be sandboxed")
		}
		err := With(p.Process.Pid, 5*time.Second, func(f *Frozen) error {
			if tid, err := f.Caller(); err != nil || tid == p.Process.Pid {
				t.Errorf("thread %d makes the calls, %v", tid, err)
			}
			if pid, err := f.Call(abi.Getpid); err != nil || int(pid) != p.Process.Pid {
				t.Errorf("getpid: %d, %v", pid, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		p.tell()
		p.expect("done")
	})
}

// TestFaultD3Process: a process all of whose threads have one is made to make none.
func TestFaultD3Process(t *testing.T) {
	eachABI(t, func(t *testing.T, code abi.ABI) {
		p := start(t, code, "restricted", "all")
		p.expect("ready")
		if !Sandboxed(p.Process.Pid) {
			t.Error("it is not said to be sandboxed")
		}
		err := With(p.Process.Pid, 5*time.Second, func(f *Frozen) error {
			_, err := f.Call(abi.Getpid)
			return err
		})
		if !errors.Is(err, ErrSandboxed) {
			t.Errorf("getpid: %v", err)
		}
		p.tell()
		p.expect("done")
	})
}
