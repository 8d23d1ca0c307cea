package remote

import (
	"errors"
	"testing"
	"time"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// TestFreezeThread: one thread stops and makes calls, the others are left where they are. Who wants all of them waits
// for it.
func TestFreezeThread(t *testing.T) {
	p := start(t, abi.Native, "threads", "4")
	p.expect("ready")
	pid := p.Process.Pid
	untilAsleep(t, pid)
	tids, err := proc.Threads(pid)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	all := make(chan error, 1)
	err = Trace(func(tr *Tracer) error {
		f, err := tr.FreezeThread(pid, pid, 5*time.Second, func(tid int) {
			if asked++; tid != pid || !Stopping(tid) {
				t.Errorf("thread %d is asked to stop, and %v", tid, Stopping(tid))
			}
		})
		if err != nil {
			return err
		}
		defer f.Thaw()
		for _, tid := range tids {
			state, err := proc.ThreadState(pid, tid)
			if traced := state == 't'; err != nil || traced != (tid == pid) || traced != Stopping(tid) {
				t.Errorf("thread %d of %d is in state %c (stopping: %v), %v", tid, pid, state, Stopping(tid), err)
			}
		}
		go func() { all <- With(pid, 5*time.Second, func(*Frozen) error { return nil }) }()
		for range 20 {
			if got, err := f.Call(abi.Getpid); err != nil || int(got) != pid {
				t.Errorf("getpid: %d, %v", got, err)
			}
		}
		return nil
	})
	if err != nil || asked == 0 {
		t.Errorf("%v; asked to stop %d times", err, asked)
	}
	if err := <-all; err != nil {
		t.Errorf("who wants all threads: %v", err)
	}
	if Stopping(pid) {
		t.Error("it was let go, and is to stop still")
	}
	p.tell()
	p.expect("done")
}

// TestFreezeThreadOfAnother: a thread that another tracer has is waited for, and whoever holds it in a call is told
// that it is to stop.
func TestFreezeThreadOfAnother(t *testing.T) {
	p := start(t, abi.Native, "idle")
	p.expect("ready")
	pid := p.Process.Pid
	untilAsleep(t, pid)
	f := p.freeze()
	asked := false
	try := func(limit time.Duration) error {
		return Trace(func(tr *Tracer) error {
			f, err := tr.FreezeThread(pid, pid, limit, func(int) { asked = true })
			if err == nil {
				f.Thaw()
			}
			return err
		})
	}
	if err := try(20 * time.Millisecond); !errors.Is(err, ErrSlow) || !asked {
		t.Errorf("while another one has it: %v; asked: %v", err, asked)
	}
	f.Thaw()
	if err := try(5 * time.Second); err != nil {
		t.Errorf("after it was let go: %v", err)
	}
	p.tell()
	p.expect("done")
}
