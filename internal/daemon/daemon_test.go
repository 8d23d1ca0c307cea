package daemon

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

// The test binary is also a small daemon: program, how it behaves.
const programName = "daemon-program"

func TestMain(m *testing.M) {
	args, ready := os.Args, func() {}
	background := IsBackground(args)
	if background {
		var err error
		if args, ready, err = Adopt(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
	}
	if len(args) < 3 || args[1] != programName {
		// With the race detector every program that ends would otherwise sleep for a second.
		if err := os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0")); err != nil {
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if !background {
		status, err := Start(args)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			if status == 0 {
				status = 98
			}
		}
		os.Exit(status)
	}
	program(args[2:], ready)
}

// program is what runs in the background.
func program(args []string, ready func()) {
	switch args[0] {
	case "exit":
		status, _ := strconv.Atoi(args[1])
		os.Exit(status)
	case "kill":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "signal": // says which signal came before it was ready
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGTERM, unix.SIGINT)
		fmt.Println("waits")
		os.Exit(40 + int((<-c).(syscall.Signal)))
	case "ready": // describes itself, is ready, and ends when it is told to
		sid, _ := unix.Getsid(0)
		input, err := os.ReadFile("/dev/stdin")
		dir, _ := os.Getwd()
		fmt.Printf("pid=%d sid=%d stdin=%q,%v dir=%s args=%q env=%v\n", os.Getpid(), sid, input, err, dir, os.Args[2:], os.Environ())
		ready()
		ready()
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGTERM)
		<-c
		fmt.Println("ended")
		os.Exit(0)
	}
}

type result struct {
	status         int
	stdout, stderr string
}

// run starts the program and waits for its foreground process. While talk runs, it can be signalled.
func run(t *testing.T, talk func(cmd *exec.Cmd), args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, append([]string{programName}, args...)...)
	// A file: the end of a pipe would come with the end of the background process.
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	cmd.Env = []string{"A=1", "GORACE=atexit_sleep_ms=0"}
	cmd.Stdin = strings.NewReader("not for the background")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	_ = read.SetReadDeadline(time.Now().Add(patience))
	first := make([]byte, 4096)
	n := 0
	if talk != nil {
		if n, err = read.Read(first); err != nil {
			t.Fatal(err)
		}
		talk(cmd)
	}
	_ = cmd.Wait()
	r := result{status: cmd.ProcessState.ExitCode()}
	if pid := pidIn(string(first[:n])); pid > 0 {
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			t.Errorf("nothing runs in the background: %v", err)
		}
	}
	rest, err := io.ReadAll(read)
	if err != nil {
		t.Errorf("the background process still has standard output: %v", err)
	}
	r.stdout = string(first[:n]) + string(rest)
	said, err := os.ReadFile(stderr.Name())
	if err != nil {
		t.Fatal(err)
	}
	r.stderr = string(said)
	return r
}

func pidIn(s string) (pid int) {
	_, _ = fmt.Sscanf(s, "pid=%d ", &pid)
	return pid
}

func TestReady(t *testing.T) {
	t.Parallel()
	r := run(t, func(*exec.Cmd) {}, "ready", "a  b")
	dir, _ := os.Getwd()
	pid := pidIn(r.stdout)
	want := fmt.Sprintf("pid=%d sid=%d stdin=\"\",<nil> dir=%s args=%q env=[A=1 GORACE=atexit_sleep_ms=0]\nended\n",
		pid, pid, dir, []string{programName, "ready", "a  b"})
	if r.status != 0 || r.stdout != want || r.stderr != "" {
		t.Errorf("%+v, want %q", r, want)
	}
}

func TestOverBeforeReady(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"exit", "3"}, 3, ""},
		{[]string{"exit", "127"}, 127, ""},
		{[]string{"exit", "0"}, 98, "status 0 before it was ready"},
		{[]string{"kill"}, 137, "killed by SIGKILL"},
	} {
		r := run(t, nil, test.args...)
		if r.status != test.status || !strings.Contains(r.stderr, test.says) || (r.stderr == "") != (test.says == "") {
			t.Errorf("%q: %+v", test.args, r)
		}
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		r := run(t, func(cmd *exec.Cmd) { _ = cmd.Process.Signal(sig) }, "signal")
		if r.status != 40+int(sig) || r.stdout != "waits\n" {
			t.Errorf("%v: %+v", sig, r)
		}
	}
}

func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	for _, fd := range []string{"", "x", "-1", "2"} {
		if _, _, err := Adopt([]string{name, fd}); err == nil {
			t.Errorf("%q was taken for a descriptor", fd)
		}
	}
	for _, args := range [][]string{nil, {name}, {"huptime", "3"}} {
		if IsBackground(args) {
			t.Errorf("%q is no background process", args)
		}
	}
}
