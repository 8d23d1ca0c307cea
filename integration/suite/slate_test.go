package suite

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// output runs a command under huptime and returns what it printed on standard output.
func output(t *testing.T, change func(*exec.Cmd), args ...string) string {
	t.Helper()
	cmd := exec.Command(huptime, args...)
	if change != nil {
		change(cmd)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, stderr.String())
	}
	return string(out)
}

// TestCleanSlate: the service starts as from a shell, but deaf to SIGHUP, whatever huptime itself was started with.
func TestCleanSlate(t *testing.T) {
	// A parent with a signal ignored and another disposition changed: nohup and a shell's trap.
	out, err := exec.Command("sh", "-c", `trap "" USR1 PIPE INT; exec "$0" cat /proc/self/status`, huptime).Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	const none, hup = "0000000000000000", "0000000000000001"
	for name, want := range map[string]string{"SigBlk": none, "SigCgt": none, "SigIgn": hup} {
		if fields[name] != want {
			t.Errorf("%s is %s, want %s", name, fields[name], want)
		}
	}
}

func TestProcessGroupOfItsOwn(t *testing.T) {
	out := strings.Fields(output(t, nil, "sh", "-c", `echo $$; cut -d " " -f 5 /proc/$$/stat`))
	if len(out) != 2 || out[0] != out[1] {
		t.Errorf("the leader and its group are %q", out)
	}
}

func TestOpenFileLimit(t *testing.T) {
	script := fmt.Sprintf(`ulimit -Sn 321; exec %q sh -c "ulimit -Sn"`, huptime)
	low, err := exec.Command("sh", "-c", script).Output()
	if err != nil || string(low) != "321\n" {
		t.Errorf("with a limit of 321 the service has %q, %v", low, err)
	}
}

func TestEnvironmentIsUnchanged(t *testing.T) {
	env := []string{"A=1", "PATH=" + os.Getenv("PATH"), "EMPTY="}
	out := strings.Split(strings.TrimSpace(output(t, func(cmd *exec.Cmd) { cmd.Env = env }, "env")), "\n")
	slices.Sort(out)
	slices.Sort(env)
	if !slices.Equal(out, env) {
		t.Errorf("the service's environment is %q, want %q", out, env)
	}
}

// TestDescriptors: the service has what huptime was started with, at the same numbers, and nothing else.
func TestDescriptors(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/inherited")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	script := []string{"sh", "-c", "cd /proc/$$/fd && echo *"}
	inherit := func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{file, nil, file} } // 3 and 5
	bare := exec.Command(script[0], script[1:]...)
	inherit(bare)
	want, err := bare.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, inherit, script...); got != string(want) {
		t.Errorf("the service has descriptors %s; without huptime %s", got, want)
	}
}

// emptyRoot makes a root directory that has huptime, the service and /proc, and nothing else.
func emptyRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "changing the root directory needs root")
	}
	root := t.TempDir()
	for name, from := range map[string]string{"huptime": huptime, "service": goserver} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/"+name, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(root+"/proc", 0o755)
	if err := unix.Mount("proc", root+"/proc", "proc", 0, ""); err != nil {
		missing(t, "cannot mount /proc: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(root+"/proc", unix.MNT_DETACH) })
	return root
}

// TestEmptyRoot: the static binary runs where there is nothing but itself, the service and /proc.
func TestEmptyRoot(t *testing.T) {
	root := emptyRoot(t)
	eachLevel(t, func(t *testing.T, level string) {
		s := golang(t)
		s.command = []string{"/service", "-addr", s.addr}
		args := append([]string{"--track=" + level}, s.command...)
		h := start(t, args, func(cmd *exec.Cmd) {
			cmd.Path = "/huptime"
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		})
		h.await("generation ready", 1)
		l := startLoad(t, s.addr, s.ask, 2)
		l.awaitNewPID(0)
		for i := range 3 {
			before := l.pids()
			h.hup()
			h.await("restart finished", i+2)
			l.awaitNewPID(before)
			h.await("generation ended", i+1)
		}
		l.check("in an empty root")
	})
}
