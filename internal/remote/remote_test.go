package remote

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// unameNumber is for a call that writes to memory; nothing but the test makes it.
var unameNumber = map[abi.ABI]int64{abi.AMD64: 63, abi.I386: 122, abi.ARM64: 160}

func TestCall(t *testing.T) { eachABI(t, testCall) }

func testCall(t *testing.T, code abi.ABI) {
	p := start(t, code, "idle")
	p.expect("ready")
	f := p.freeze()
	defer func() {
		f.Thaw()
		p.tell()
		p.expect("done")
	}()
	pid, err := f.Call(abi.Getpid)
	if err != nil || int(pid) != p.Process.Pid {
		t.Fatalf("getpid: %d, %v; want %d", pid, err, p.Process.Pid)
	}
	if _, err := f.Call(abi.Close, ^uintptr(0)); err != unix.EBADF {
		t.Fatalf("close(-1): %v; want EBADF", err)
	}
	// Memory is lent and given back.
	uname := make([]byte, 390)
	if err := f.WithSpace(len(uname), func(uint64) []byte { return uname }, func(addr uint64) error {
		if _, err := f.run(unameNumber[code], uintptr(addr)); err != nil {
			return err
		}
		return f.Read(addr, uname)
	}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(uname), "Linux\x00") {
		t.Fatalf("uname wrote %q", uname[:16])
	}
}

func TestFreezeStopsEveryThread(t *testing.T) { eachABI(t, testFreezeStopsEveryThread) }

func testFreezeStopsEveryThread(t *testing.T, code abi.ABI) {
	for _, n := range []int{1, 50, 400} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			p := start(t, code, "threads", strconv.Itoa(n))
			p.expect("ready")
			f := p.freeze()
			tids, err := proc.Threads(p.Process.Pid)
			if err != nil {
				t.Error(err)
			}
			for _, tid := range tids {
				if state, err := proc.ThreadState(p.Process.Pid, tid); err != nil || state != 't' {
					t.Errorf("thread %d is in state %c, %v; want t", tid, state, err)
				}
			}
			f.Thaw()
			p.tell()
			p.expect("done")
		})
	}
}

func TestFreezeMeetsBirthsAndDeaths(t *testing.T) { eachABI(t, testFreezeMeetsBirthsAndDeaths) }

func testFreezeMeetsBirthsAndDeaths(t *testing.T, code abi.ABI) {
	p := start(t, code, "births")
	p.expect("ready")
	for range 30 {
		f := p.freeze()
		if pid, err := f.Call(abi.Getpid); err != nil || int(pid) != p.Process.Pid {
			t.Errorf("getpid: %d, %v", pid, err)
		}
		f.Thaw()
		p.tell()
		p.expect("alive")
	}
}

// TestNothingIsVisible freezes threads that sleep in every kind of call. None may return before it should, nor with EINTR.
func TestNothingIsVisible(t *testing.T) { eachABI(t, testNothingIsVisible) }

func testNothingIsVisible(t *testing.T, code abi.ABI) {
	semaphore(t)
	p := start(t, code, "waits")
	n, _ := strconv.Atoi(p.expect("ready"))
	p.freezeOften()
	p.tell()
	for range n {
		result := p.expect("result")
		if !strings.HasSuffix(result, "<nil>") {
			t.Errorf("a call failed: %s", result)
		}
	}
}

// freezeOften freezes a program 50 times, with a remote call each time. It may not say a word meanwhile.
func (p *target) freezeOften() {
	p.t.Helper()
	for range 50 {
		f := p.freeze()
		if _, err := f.Call(abi.Getpid); err != nil {
			p.t.Error(err)
		}
		f.Thaw()
	}
	select {
	case line := <-p.lines:
		p.t.Fatalf("a call returned early: %s", line)
	case <-time.After(100 * time.Millisecond): // as long as a wrong return would take to be told
	}
}

// TestNothingIsVisibleToTheCaller is the same for the thread that makes the remote calls.
func TestNothingIsVisibleToTheCaller(t *testing.T) { eachABI(t, testNothingIsVisibleToTheCaller) }

func testNothingIsVisibleToTheCaller(t *testing.T, code abi.ABI) {
	names := []string{"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect", "accept", "accept with a limit",
		"recv with a limit", "read", "futex", "sigtimedwait", "semop", "sleep"}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			semaphore(t)
			t.Setenv("REMOTE_TEST_CALL", name)
			p := start(t, code, "main")
			p.expect("ready")
			untilAsleep(t, p.Process.Pid)
			p.freezeOften()
			p.tell()
			if result := p.expect("result"); result != "<nil>" {
				t.Errorf("the call failed: %s", result)
			}
		})
	}
}

// untilAsleep waits until the first thread has settled in a call.
func untilAsleep(t *testing.T, pid int) {
	t.Helper()
	last, seen := int64(-1), 0
	for deadline := time.Now().Add(5 * time.Second); seen < 5; time.Sleep(time.Millisecond) {
		call, err := proc.ReadSyscall(pid, pid)
		if seen++; err != nil || call.Running || call.Number != last {
			last, seen = call.Number, 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not settle in a call", pid)
		}
	}
}

// TestSignalWhileFrozenInterrupts: a stop signal is sent to a frozen process. Its handler runs after the thaw, and the call that it waits in
// answers EINTR, as it would have: many a service looks at what its handler noted only then.
func TestSignalWhileFrozenInterrupts(t *testing.T) { eachABI(t, testSignalWhileFrozenInterrupts) }

func testSignalWhileFrozenInterrupts(t *testing.T, code abi.ABI) {
	for name, send := range map[string]func(pid int) error{
		"to the process": func(pid int) error { return unix.Kill(pid, unix.SIGUSR1) },
		"to the thread":  func(pid int) error { return unix.Tgkill(pid, pid, unix.SIGUSR1) },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, code, "signalled")
			p.expect("ready")
			untilAsleep(t, p.Process.Pid)
			p.freezeOften()
			f := p.freeze()
			if err := send(p.Process.Pid); err != nil {
				t.Error(err)
			}
			if _, err := f.Call(abi.Getpid); err != nil {
				t.Error(err)
			}
			f.Thaw()
			if result := p.expect("result"); result != unix.EINTR.Error() {
				t.Errorf("epoll_wait: %s", result)
			}
		})
	}
}

// TestSignalAfterTheThawInterrupts: a thread that was let go, and is not back in its call yet, is told of a signal that
// comes then.
func TestSignalAfterTheThawInterrupts(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		return // there it is wound back before it is let go
	}
	eachABI(t, testSignalAfterTheThawInterrupts)
}

func testSignalAfterTheThawInterrupts(t *testing.T, code abi.ABI) {
	for range 20 {
		p := start(t, code, "signalled")
		p.expect("ready")
		untilAsleep(t, p.Process.Pid)
		f := p.freeze()
		f.Thaw()
		if err := unix.Tgkill(p.Process.Pid, p.Process.Pid, unix.SIGUSR1); err != nil {
			t.Error(err)
		}
		if result := p.expect("result"); result != unix.EINTR.Error() {
			t.Errorf("epoll_wait: %s", result)
		}
	}
}

const queuedSignal = 40 // as in ./program

func TestSignalsWaitForTheThaw(t *testing.T) { eachABI(t, testSignalsWaitForTheThaw) }

func testSignalsWaitForTheThaw(t *testing.T, code abi.ABI) {
	p := start(t, code, "signals")
	tid, _ := strconv.Atoi(p.expect("ready"))
	f := p.freeze()
	for range 100 {
		unix.Tgkill(p.Process.Pid, tid, queuedSignal)
	}
	if _, err := f.Call(abi.Getpid); err != nil {
		t.Error(err)
	}
	f.Thaw()
	p.expect("all")
	p.tell()
	if n := p.expect("count"); n != "100" {
		t.Errorf("%s of 100 signals arrived", n)
	}
}

func TestSignalsDuringFreezes(t *testing.T) { eachABI(t, testSignalsDuringFreezes) }

func testSignalsDuringFreezes(t *testing.T, code abi.ABI) {
	p := start(t, code, "signals")
	tid, _ := strconv.Atoi(p.expect("ready"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			unix.Tgkill(p.Process.Pid, tid, queuedSignal)
			if i%10 == 0 {
				unix.Kill(p.Process.Pid, unix.SIGURG) // one that has a handler in every Go program
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	for range 40 {
		f := p.freeze()
		if _, err := f.Call(abi.Getpid); err != nil {
			t.Error(err)
		}
		f.Thaw()
	}
	<-done
	p.expect("all")
	p.tell()
	if n := p.expect("count"); n != "100" {
		t.Errorf("%s of 100 signals arrived", n)
	}
}

func TestKilledWhileFrozen(t *testing.T) { eachABI(t, testKilledWhileFrozen) }

func testKilledWhileFrozen(t *testing.T, code abi.ABI) {
	p := start(t, code, "idle")
	p.expect("ready")
	f := p.freeze()
	p.Process.Kill()
	if _, err := f.Call(abi.Getpid); err == nil {
		t.Log("the call came before the kill") // SIGKILL is delivered when it pleases the kernel
	}
	f.Thaw()
	if _, err := Freeze(p.Process.Pid, time.Second); err == nil {
		t.Error("a killed process was frozen")
	}
}

func TestStoppedStaysStopped(t *testing.T) { eachABI(t, testStoppedStaysStopped) }

func testStoppedStaysStopped(t *testing.T, code abi.ABI) {
	p := start(t, code, "idle")
	p.expect("ready")
	unix.Kill(p.Process.Pid, unix.SIGSTOP)
	untilState(t, p.Process.Pid, 'T')
	f := p.freeze()
	if pid, err := f.Call(abi.Getpid); err != nil || int(pid) != p.Process.Pid {
		t.Errorf("getpid: %d, %v", pid, err)
	}
	f.Thaw()
	untilState(t, p.Process.Pid, 'T')
	unix.Kill(p.Process.Pid, unix.SIGCONT)
	p.tell()
	p.expect("done")
}

func untilState(t *testing.T, pid int, want byte) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		state, err := proc.ThreadState(pid, pid)
		if err == nil && state == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is in state %c, %v; want %c", pid, state, err, want)
		}
	}
}

func TestDeadTracerLetsGo(t *testing.T) { eachABI(t, testDeadTracerLetsGo) }

func testDeadTracerLetsGo(t *testing.T, code abi.ABI) {
	p := start(t, code, "idle")
	p.expect("ready")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "REMOTE_TEST_TRACE="+strconv.Itoa(p.Process.Pid))
	tracer := launch(t, cmd)
	tracer.expect("frozen")
	tracer.Wait()
	p.tell()
	p.expect("done")
}

func TestErrors(t *testing.T) {
	if _, err := Freeze(1<<22-1, time.Second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
	p := start(t, abi.Native, "idle")
	p.expect("ready")
	f := p.freeze()
	// Whoever is traced can't be traced by a second one.
	result := make(chan error)
	go func() {
		_, err := Freeze(p.Process.Pid, time.Second)
		result <- err
	}()
	if err := <-result; !errors.Is(err, ErrDenied) {
		t.Errorf("traced already: %v", err)
	}
	f.Thaw()
	p.tell()
	p.expect("done")
}

func TestTryReap(t *testing.T) {
	p := start(t, abi.Native, "idle")
	p.expect("ready")
	f := p.freeze()
	if TryReap(func() {}) {
		t.Error("children may be reaped during a freeze")
	}
	f.Thaw()
	if !TryReap(func() {}) {
		t.Error("children may not be reaped after a freeze")
	}
	p.tell()
	p.expect("done")
}
