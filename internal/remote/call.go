package remote

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// callLimit bounds one call. The calls that are made do not sleep, but a notified one waits for the
// supervisor's answer.
const callLimit = 2 * time.Second

// caller is what a frozen process needs to be able to make calls.
type caller struct {
	t       *thread
	saved   registers
	at      uint64 // of a system call instruction
	scratch uint64 // of memory that calls may use, saved by Call
}

// prepareCalls chooses the thread and finds an instruction, once.
func (f *Frozen) prepareCalls() error {
	if f.calls.t != nil {
		return nil
	}
	t := f.threads[0]
	var r registers
	n, errno := registerSet(unix.PTRACE_GETREGSET, t.tid, &r)
	if errno != 0 {
		return ErrGone
	}
	if n != registersSize || !r.longMode() {
		return ErrForeign
	}
	at, err := f.findInstruction()
	if err != nil {
		return err
	}
	// Below the red zone (128 bytes on amd64; arm64 has none), and aligned.
	scratch := (r.stack() - 1024) &^ 63
	f.calls = caller{t: t, saved: r, at: at, scratch: scratch}
	return nil
}

// findInstruction looks for a system call instruction in the vdso, which every process has mapped (vdso(7)).
func (f *Frozen) findInstruction() (uint64, error) {
	maps, err := os.ReadFile("/proc/" + strconv.Itoa(f.pid) + "/maps")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(maps) {
		if !bytes.HasSuffix(bytes.TrimRight(line, "\n"), []byte(" [vdso]")) {
			continue
		}
		from, to, ok := mapping(line)
		if !ok || to-from > 1<<20 {
			break
		}
		code := make([]byte, to-from)
		if err := f.Read(from, code); err != nil {
			return 0, err
		}
		if i := findInstruction(code); i >= 0 {
			return from + uint64(i), nil
		}
	}
	return 0, fmt.Errorf("no system call instruction found in the vdso of process %d", f.pid)
}

// mapping reads the addresses of a line of /proc/PID/maps.
func mapping(line []byte) (from, to uint64, ok bool) {
	dash := bytes.IndexByte(line, '-')
	blank := bytes.IndexByte(line, ' ')
	if dash < 0 || blank < dash {
		return 0, 0, false
	}
	from, err1 := strconv.ParseUint(string(line[:dash]), 16, 64)
	to, err2 := strconv.ParseUint(string(line[dash+1:blank]), 16, 64)
	return from, to, err1 == nil && err2 == nil && from < to
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
func (f *Frozen) Interrupted(tid int) (number int64, ok bool) {
	var r registers
	if n, errno := registerSet(unix.PTRACE_GETREGSET, tid, &r); errno != 0 || n != registersSize {
		return -1, false
	}
	return r.interrupted()
}

// restartable are the results by which the kernel notes that a signal or a stop has interrupted a call
// (include/linux/errno.h); tracers see them.
func restartable(result int64) bool {
	const (
		restartSys          = -512 // ERESTARTSYS
		restartNoIntr       = -513 // ERESTARTNOINTR
		restartNoHand       = -514 // ERESTARTNOHAND
		restartRestartblock = -516 // ERESTART_RESTARTBLOCK
	)
	switch result {
	case restartSys, restartNoIntr, restartNoHand, restartRestartblock, -int64(unix.EINTR):
		return true
	}
	return false
}

// Call makes the process run a system call and returns its result; a failure of the
// call itself is a unix.Errno.
func (f *Frozen) Call(number uintptr, args ...uintptr) (int64, error) {
	if len(f.threads) == 0 {
		return 0, ErrGone
	}
	if err := f.prepareCalls(); err != nil {
		return 0, err
	}
	c := f.calls
	// No signal may come between: its handler would run on the made-up registers.
	blocked := ^uint64(0)
	if errno := signalMask(unix.PTRACE_SETSIGMASK, c.t.tid, &blocked); errno != 0 {
		return 0, ErrGone
	}
	defer signalMask(unix.PTRACE_SETSIGMASK, c.t.tid, &c.t.mask)
	var six [6]uintptr
	copy(six[:], args)
	made := c.saved.prepare(c.at, number, six)
	if _, errno := registerSet(unix.PTRACE_SETREGSET, c.t.tid, &made); errno != 0 {
		return 0, ErrGone
	}
	defer c.settle()
	defer registerSet(unix.PTRACE_SETREGSET, c.t.tid, &c.saved)
	result, err := c.step()
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
		if _, errno := registerSet(unix.PTRACE_GETREGSET, c.t.tid, &r); errno != 0 {
			return 0, ErrGone
		}
		if r.done(c.at) {
			return r.result(), nil
		}
	}
	return 0, errors.New("the thread does not get there")
}

// settle takes the thread from the trap behind the step back to a stop without a signal. If the
// supervisor ended at the trap, the kernel would deliver its SIGTRAP, and that kills.
func (c *caller) settle() {
	if ptrace(unix.PTRACE_INTERRUPT, c.t.tid, 0, 0) == 0 && ptrace(unix.PTRACE_CONT, c.t.tid, 0, 0) == 0 {
		c.t.await(time.Now().Add(callLimit))
	}
}

// Read copies memory of the process.
func (f *Frozen) Read(addr uint64, buf []byte) error {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(f.pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err == nil && n != len(buf) {
		err = unix.EFAULT
	}
	return os.NewSyscallError("process_vm_readv", err)
}

func (f *Frozen) write(addr uint64, buf []byte) error {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMWritev(f.pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err == nil && n != len(buf) {
		err = unix.EFAULT
	}
	return os.NewSyscallError("process_vm_writev", err)
}

// WithSpace puts data into the memory of the process for as long as use runs: what fill makes
// of the address, size bytes at the most. It is a stretch of stack below what is in use; what was
// there comes back.
func (f *Frozen) WithSpace(size int, fill func(addr uint64) []byte, use func(addr uint64) error) error {
	if err := f.prepareCalls(); err != nil {
		return err
	}
	addr := f.calls.scratch - uint64(size+63)&^63
	data := fill(addr)
	before := make([]byte, len(data))
	if err := f.Read(addr, before); err != nil {
		return err
	}
	if err := f.write(addr, data); err != nil {
		return err
	}
	defer f.write(addr, before)
	return use(addr)
}
