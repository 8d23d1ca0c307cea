package notify

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A loaded filter can't be taken off again, so a child of the test binary loads
// it: TestHelperFilter does what this variable says, and is a test of nothing else.
const helperFilter = "HUPTIME_HELPER_FILTER"

func runHelperFilter(t *testing.T, role string) (output []byte) {
	t.Helper()
	if err := Probe(); errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestHelperFilter$", "-test.v", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), helperFilter+"="+role)
	output, err = cmd.CombinedOutput()
	// A child in which the role did not run would pass as well.
	if err != nil || !bytes.Contains(output, []byte("done: ")) {
		t.Errorf("%v\n%s", err, output)
	}
	return output
}

func TestKernelTakesFilter(t *testing.T) {
	for _, level := range []Level{LevelConnections, LevelListeners, LevelCalls} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			runHelperFilter(t, string(level))
		})
	}
}

// The supervisor may live where it must not call seccomp(2). That is for Probe
// to report, and must not change what is built.
func TestBuildFilterWithoutSeccomp(t *testing.T) {
	want, err := BuildFilter(LevelConnections)
	if err != nil {
		t.Fatal(err)
	}
	if output := runHelperFilter(t, "deny"); !t.Failed() && !bytes.Contains(output, []byte(want.String())) {
		t.Errorf("built without seccomp(2):\n%s\nwith it:\n%v", output, want)
	}
}

func TestHelperFilter(t *testing.T) {
	role := os.Getenv(helperFilter)
	switch role {
	case "":
		return
	case "deny":
		onOwnThread(t, denySeccomp)
	case "denied":
		if errno := seccompActionAvailable(unix.SECCOMP_RET_USER_NOTIF); errno != unix.EPERM {
			t.Fatalf("seccomp(2) is not denied: %v", errno)
		}
		program, err := BuildFilter(LevelConnections)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Print(program)
	default:
		level, err := ParseLevel(role)
		if err != nil {
			t.Fatal(err)
		}
		// Opened and closed here, because on the filtered thread close waits
		// for an answer.
		status, err := os.Open("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		defer status.Close()
		onOwnThread(t, func() error { return useFiltered(level, status) })
	}
	t.Log("done: " + role)
}

// onOwnThread runs f on a thread that ends with it, and its filter too.
func onOwnThread(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() { // owned by this function, which waits for it
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// useFiltered loads the filter on the calling thread as a launcher does and
// looks at what became of system calls.
func useFiltered(level Level, status *os.File) error {
	program, err := BuildFilter(level)
	if err != nil {
		return err
	}
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGWINCH} {
		if errno := setDisposition(sig, sigDefault); errno != 0 {
			return fmt.Errorf("reset %v: %w", sig, errno)
		}
	}

	listener, errno := installFilter(program)
	if errno != 0 {
		return fmt.Errorf("the kernel refuses the program (%w):\n%v", errno, program)
	}
	answered := make(chan error, 1)
	go func() { // owned by useFiltered; ends with the first notification or after a deadline
		answered <- closeWhenAsked(listener)
	}()
	if _, err := unix.Getpgid(0); err != nil {
		return fmt.Errorf("a call that is not listed: %w", err)
	}
	if errno := setDisposition(unix.SIGWINCH, sigIgnore); errno != 0 {
		return fmt.Errorf("ignoring SIGWINCH: %w, want success", errno)
	}
	if got, err := ignores(status, unix.SIGWINCH); err != nil || !got {
		return fmt.Errorf("SIGWINCH is ignored: %v, %v, want it to be", got, err)
	}
	// A call that is asked about waits until the listener is gone, and fails
	// with ENOSYS then.
	if err := unix.Listen(-1, 0); err != unix.ENOSYS {
		return fmt.Errorf("listen was not asked about: %v, want %v", err, unix.ENOSYS)
	}
	return <-answered
}

// closeWhenAsked waits for a notification and closes the listener.
func closeWhenAsked(listener int) error {
	const limit = 10 * time.Second
	defer unix.Close(listener)
	fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(limit.Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n != 1 || fds[0].Revents != unix.POLLIN:
			return fmt.Errorf("no notification in %v (events %#x)", limit, fds[0].Revents)
		}
		return nil
	}
}

// ignores reads the SigIgn line of an open /proc/PID/status.
func ignores(status *os.File, sig unix.Signal) (bool, error) {
	b := make([]byte, 8192)
	n, err := unix.Pread(int(status.Fd()), b, 0)
	if err != nil {
		return false, os.NewSyscallError("pread64", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b[:n])); lines.Scan(); {
		if mask, ok := strings.CutPrefix(lines.Text(), "SigIgn:\t"); ok {
			var bits uint64
			_, err := fmt.Sscanf(mask, "%x", &bits)
			return bits&(1<<(uint(sig)-1)) != 0, err
		}
	}
	return false, errors.New("no SigIgn line")
}

// denySeccomp becomes the role "denied" in a process that is refused
// seccomp(2) from its first instruction on: the library probes while the
// process starts.
func denySeccomp() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	denial := Program{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SECCOMP, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if _, errno := seccompLoad(denial, 0); errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	if err := os.Setenv(helperFilter, "denied"); err != nil {
		return err
	}
	return os.NewSyscallError("execve", unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}
