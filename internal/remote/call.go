package remote

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
)

// callLimit bounds one call. The calls that are made do not sleep, but a notified one waits for the
// supervisor's answer.
const callLimit = 2 * time.Second

// leaveLimit bounds how long a thread may take to leave a call that is given up.
const leaveLimit = 100 * time.Millisecond

// caller is what a frozen process needs to be able to make calls.
type caller struct {
	t       *thread
	saved   registers
	abi     abi.ABI // of the code that the thread runs
	at      uint64  // of a system call instruction
	scratch uint64  // of memory that calls may use, saved by Call
}

// prepareCalls chooses the thread and finds an instruction, once.
func (f *Frozen) prepareCalls() error {
	if f.calls.t != nil {
		return nil
	}
	t, err := f.unrestricted()
	if err != nil {
		return err
	}
	var r registers
	if err := readRegisters(t.tid, &r); err != nil {
		return err
	}
	code := r.abi()
	if code == abi.Unknown {
		return ErrForeign
	}
	at, err := f.findInstruction(code)
	if err != nil {
		return err
	}
	// Below the red zone (128 bytes on amd64; the others have none), and aligned.
	scratch := (r.stack() - 1024) &^ 63
	f.calls = caller{t: t, saved: r, abi: code, at: at, scratch: scratch}
	return nil
}

// Caller is the thread that runs the calls: a notified one comes with this thread's id.
func (f *Frozen) Caller() (int, error) {
	if len(f.threads) == 0 {
		return 0, ErrGone
	}
	if err := f.prepareCalls(); err != nil {
		return 0, err
	}
	return f.calls.t.tid, nil
}

// ABI is that of the calls that the process is made to run, and thus of the structures that they take.
func (f *Frozen) ABI() (abi.ABI, error) {
	if _, err := f.Caller(); err != nil {
		return abi.Unknown, err
	}
	return f.calls.abi, nil
}

// Threads lists the frozen threads.
func (f *Frozen) Threads() []int {
	tids := make([]int, 0, len(f.threads))
	for _, t := range f.threads {
		tids = append(tids, t.tid)
	}
	return tids
}

// Interrupted tells which system call the freeze took a thread out of, one that it
// will make anew or that says EINTR. It is not ok for threads that were not in a call, or whose call had returned.
func (f *Frozen) Interrupted(tid int) (call abi.Call, ok bool) {
	call, _, ok = f.InterruptedOn(tid)
	return call, ok
}

// InterruptedOn is Interrupted with the call's first argument as the kernel takes an int: the descriptor that a thread waits on in
// a call which waits on one.
func (f *Frozen) InterruptedOn(tid int) (call abi.Call, fd int, ok bool) {
	for _, t := range f.threads {
		var r registers
		if t.tid == tid && readRegisters(tid, &r) == nil {
			w := r.wait(tid, t.before)
			return w.call, int(int32(w.first)), w.interrupted
		}
	}
	return abi.Other, -1, false
}

// wait is the system call that the freeze took a thread out of.
type wait struct {
	call        abi.Call
	interrupted bool   // it will be made anew, or says EINTR; else there was none, or it had returned
	first       uint64 // its first argument, whose place the result takes on arm64
}

// Results by which the kernel notes that a signal or a stop has interrupted a call
// (include/linux/errno.h); tracers see them.
const (
	restartSys          = 512 // ERESTARTSYS
	restartNoIntr       = 513 // ERESTARTNOINTR
	restartNoHand       = 514 // ERESTARTNOHAND
	restartRestartblock = 516 // ERESTART_RESTARTBLOCK
)

// restartable tells whether a result is one of them, or could be.
func restartable(result int64) bool {
	switch result {
	case -restartSys, -restartNoIntr, -restartNoHand, -restartRestartblock, -int64(unix.EINTR):
		return true
	}
	return false
}

// Call makes the process run a system call and returns its result; a failure of the
// call itself is a unix.Errno. Pointers are addresses in the process, structures have the layout of its [Frozen.ABI].
func (f *Frozen) Call(call abi.Call, args ...uintptr) (int64, error) {
	code, err := f.ABI()
	if err != nil {
		return 0, err
	}
	number, ok := code.Number(call)
	if !ok {
		return 0, fmt.Errorf("cannot make process %d run %s: %w: %s has no such call", f.pid, call, ErrForeign, code)
	}
	return f.run(number, args...)
}

// run makes a call by the number that it has in the ABI of the process.
func (f *Frozen) run(number int64, args ...uintptr) (int64, error) {
	if _, err := f.Caller(); err != nil {
		return 0, err
	}
	c := f.calls
	if c.t.owed != nil {
		return 0, fmt.Errorf("cannot make process %d run call %d: an earlier one is not over: %w", f.pid, number, ErrSlow)
	}
	// No signal may come between: its handler would run on the made-up registers. But for the one of the step itself: were it blocked,
	// the kernel would take its handler away (force_sig_info_to_task in kernel/signal.c).
	blocked := ^uint64(0) &^ (1 << (unix.SIGTRAP - 1))
	if errno := signalMask(unix.PTRACE_SETSIGMASK, c.t.tid, &blocked); errno != 0 {
		return 0, ErrGone
	}
	c.t.owed = &c.saved
	var six [6]uintptr
	copy(six[:], args)
	made := c.saved.prepare(c.at, number, six)
	result, err := int64(0), writeRegisters(c.t.tid, &made)
	if err == nil {
		result, err = c.step()
	}
	if errors.Is(err, ErrSlow) {
		err = c.leave()
	} else if restored := c.t.restore(err != nil); err == nil {
		err = restored
	}
	if err != nil {
		return 0, fmt.Errorf("cannot make process %d run call %d: %w", f.pid, number, err)
	}
	if result < 0 && result >= -4095 {
		return 0, unix.Errno(-result)
	}
	return result, nil
}

// step runs the one instruction. A stop for another reason (a stop signal to the whole
// process) does not count.
func (c *caller) step() (int64, error) {
	deadline := time.Now().Add(callLimit)
	for range 8 {
		if errno := ptrace(unix.PTRACE_SINGLESTEP, c.t.tid, 0, 0); errno != 0 {
			return 0, ErrGone
		}
		if _, err := c.t.await(deadline); err != nil {
			return 0, err
		}
		var r registers
		if err := readRegisters(c.t.tid, &r); err != nil {
			return 0, err
		}
		if r.done(c.at) {
			return r.result(), nil
		}
	}
	return 0, errors.New("the thread does not get there")
}

// leave gives up a call that does not return: a notified one that nobody answers. Where nobody has received the notification the
// thread leaves the call at once; else it stays there until it is answered (WAIT_KILLABLE_RECV), and is late.
func (c *caller) leave() error {
	if ptrace(unix.PTRACE_INTERRUPT, c.t.tid, 0, 0) == 0 {
		if _, err := c.t.await(time.Now().Add(leaveLimit)); err == nil {
			if err := c.t.restore(true); err != nil {
				return err
			}
			return fmt.Errorf("%w: the call was not answered", ErrSlow)
		}
	}
	return fmt.Errorf("%w: the call is not answered, and thread %d stays in it until it is", ErrSlow, c.t.tid)
}
