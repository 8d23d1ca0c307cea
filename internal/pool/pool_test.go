package pool

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also a pool's master.
func TestMain(m *testing.M) {
	if IsMaster(os.Args) {
		os.Exit(Run(os.Args))
	}
	os.Exit(m.Run())
}

// pool is a running master whose copies are shell scripts.
type pool struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   *os.File // what the copies print; a pipe
	ready *os.File
	buf   string
}

func start(t *testing.T, o Order, script string) *pool {
	t.Helper()
	return startPath(t, o, "/bin/sh", script)
}

// startPath does so with another shell.
func startPath(t *testing.T, o Order, path, script string) *pool {
	t.Helper()
	readOut, writeOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	readReady, writeReady, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o.Ready = 3
	self, _ := os.Executable()
	cmd := exec.Command(self)
	cmd.Args = append(o.Args(), path, "sh", "-c", script)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = writeOut, writeOut, []*os.File{readReady}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writeOut.Close()
	readReady.Close()
	p := &pool{t: t, cmd: cmd, out: readOut, ready: writeReady}
	t.Cleanup(func() {
		cmd.Process.Kill() // its copies get SIGTERM
		cmd.Wait()
		readOut.Close()
		writeReady.Close()
	})
	return p
}

// await reads until text was printed n times.
func (p *pool) await(text string, n int) {
	p.t.Helper()
	p.out.SetReadDeadline(time.Now().Add(20 * time.Second))
	for b := make([]byte, 4096); strings.Count(p.buf, text) < n; {
		k, err := p.out.Read(b)
		if err != nil {
			p.t.Fatalf("waited for %d times %q, got %q: %v", n, text, p.buf, err)
		}
		p.buf += string(b[:k])
	}
}

// isReady tells the master so.
func (p *pool) isReady() { p.ready.Write([]byte{1}) }

func (p *pool) signal(sig syscall.Signal) { p.cmd.Process.Signal(sig) }

func (p *pool) exits(want int) {
	p.t.Helper()
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit status %d, want %d; %q", got, want, p.buf)
	}
}

// pid is the process id that the n-th line "pid=" tells.
func (p *pool) pid(n int) int {
	fields := strings.Split(p.buf, "pid=")
	id, _ := strconv.Atoi(strings.Fields(fields[n])[0])
	return id
}

const waits = `trap 'echo heard; exit 5' TERM; trap 'echo usr1' USR1; echo pid=$$; while :; do sleep 0.05; done`

func TestSignalsAreHandedOn(t *testing.T) {
	p := start(t, Order{Copies: 3, Stop: unix.SIGTERM, Fail: true}, waits)
	p.await("pid=", 3)
	p.isReady()
	p.signal(unix.SIGUSR1)
	p.await("usr1", 3)
	p.signal(unix.SIGTERM)
	p.await("heard", 3)
	p.exits(5) // and none is started again
}

func TestCopyIsStartedAgain(t *testing.T) {
	p := start(t, Order{Copies: 2, Stop: unix.SIGTERM, Always: true}, waits)
	p.await("pid=", 2)
	p.isReady()
	unix.Kill(p.pid(1), unix.SIGKILL)
	p.await("copy is started again", 1)
	p.await("pid=", 3)
	p.signal(unix.SIGTERM)
	p.await("heard", 2)
	p.exits(5)
}

func TestCopyIsNotStartedAgain(t *testing.T) {
	p := start(t, Order{Copies: 2, Stop: unix.SIGTERM}, waits)
	p.await("pid=", 2)
	p.isReady()
	unix.Kill(p.pid(1), unix.SIGKILL)
	p.await("copy ended", 1)
	unix.Kill(p.pid(2), unix.SIGKILL)
	p.exits(137)
}

func TestDiesBeforeReady(t *testing.T) {
	p := start(t, Order{Copies: 3, Stop: unix.SIGTERM, Always: true}, waits)
	p.await("pid=", 3)
	unix.Kill(p.pid(2), unix.SIGKILL)
	p.await("heard", 2)
	p.exits(137)
}

// TestSilence: a copy finds nothing of the pool in its descriptors and its signals.
func TestSilence(t *testing.T) {
	const script = `cd /proc/$$/fd; echo fds: *; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; echo end`
	bare, err := exec.Command("/bin/sh", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, Order{Copies: 1, Stop: unix.SIGTERM}, script)
	p.await("end", 1)
	p.exits(0)
	if p.buf != string(bare) {
		t.Errorf("a copy sees %q, and without a pool %q", p.buf, bare)
	}
}

// TestFaultC5CopyIsTriedAgain: a copy that can't be executed at its time, because a deploy writes its file, is tried again until it can.
func TestFaultC5CopyIsTriedAgain(t *testing.T) {
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sh")
	if err := os.WriteFile(path, sh, 0o755); err != nil {
		t.Fatal(err)
	}
	p := startPath(t, Order{Copies: 2, Stop: unix.SIGTERM, Always: true}, path, waits)
	p.await("pid=", 2)
	p.isReady()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	unix.Kill(p.pid(1), unix.SIGKILL)
	p.await("cannot start a copy", 2)
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	p.await("pid=", 3)
	unix.Kill(p.cmd.Process.Pid, unix.SIGTERM)
	p.await("heard", 2)
}
