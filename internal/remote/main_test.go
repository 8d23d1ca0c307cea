package remote

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/leak"
)

// TestMain lets the test binary be a supervisor that dies; what is frozen is ./program. The real kernel, and real processes.
func TestMain(m *testing.M) {
	if pid, err := strconv.Atoi(os.Getenv("REMOTE_TEST_TRACE")); err == nil {
		freezeAndDie(pid)
		os.Exit(0)
	}
	code := leak.Run(m)
	for _, b := range binaries {
		os.RemoveAll(b.dir)
	}
	os.Exit(code)
}

// binary is ./program, built for one ABI when it is first needed.
type binary struct {
	goarch string
	once   sync.Once
	dir    string
	err    error
}

var binaries = map[abi.ABI]*binary{abi.Native: {goarch: runtime.GOARCH}}

func init() {
	if abi.Native == abi.AMD64 {
		binaries[abi.I386] = &binary{goarch: "386"}
	}
}

func (b *binary) path(t *testing.T) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "huptime-remote"); b.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", b.dir+"/program", "./program")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+b.goarch)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir + "/program"
}

// eachABI runs a test with programs of each ABI of the machine.
func eachABI(t *testing.T, test func(t *testing.T, code abi.ABI)) {
	for code := range binaries {
		t.Run(code.String(), func(t *testing.T) { test(t, code) })
	}
}

// tracing skips the test where there is no ptrace: under qemu-user, which runs the tests that need none on another architecture.
func tracing(t *testing.T) {
	t.Helper()
	// A process that is no child of ours and doesn't exist: a kernel with ptrace says ESRCH.
	if errno := ptrace(unix.PTRACE_INTERRUPT, 1<<30, 0, 0); errno == unix.ENOSYS || errno == unix.EIO {
		t.Skipf("unsupported here: ptrace: %v", errno)
	}
}

// target is a running program. It is ended when the test is.
type target struct {
	*exec.Cmd
	t     *testing.T
	lines chan string
	in    *os.File
}

// start runs ./program, built for the ABI.
func start(t *testing.T, code abi.ABI, args ...string) *target {
	t.Helper()
	tracing(t)
	return launch(t, exec.Command(binaries[code].path(t), args...))
}

func launch(t *testing.T, cmd *exec.Cmd) *target {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = read
	err = cmd.Start()
	read.Close()
	if errors.Is(err, unix.ENOEXEC) {
		write.Close()
		t.Skipf("unsupported here: running %s: %v", cmd.Path, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &target{Cmd: cmd, t: t, lines: make(chan string, 1000), in: write}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(func() {
		write.Close()
		cmd.Process.Kill()
		for range p.lines { // so that the reader never waits
		}
		<-done
		cmd.Wait()
	})
	return p
}

// expect waits for a line that begins with prefix and returns the rest.
func (p *target) expect(prefix string) string {
	p.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the program ended without saying %q", prefix)
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return strings.TrimSpace(rest)
			}
		case <-limit:
			p.t.Fatalf("the program did not say %q", prefix)
		}
	}
}

// tell lets the program go on.
func (p *target) tell() {
	p.t.Helper()
	if _, err := p.in.WriteString("\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *target) freeze() *Frozen {
	p.t.Helper()
	f, err := Freeze(p.Process.Pid, 5*time.Second)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

// freezeAndDie freezes another process and dies on the way.
func freezeAndDie(pid int) {
	f, err := Freeze(pid, 5*time.Second)
	if err == nil {
		_, err = f.Call(abi.Getpid)
	}
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("frozen")
	unix.Kill(os.Getpid(), unix.SIGKILL)
}
