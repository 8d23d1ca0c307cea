package notify

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/leak"
)

type commandResult struct {
	code           int
	stdout, stderr string
}

// runCommand runs a command of the test's; prepare may be nil.
func runCommand(t *testing.T, prepare func(*exec.Cmd), command ...string) commandResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = patience
	if prepare != nil {
		prepare(cmd)
	}
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return commandResult{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// Whoever starts huptime may ignore signals (nohup, a shell's background jobs) or block them.
func TestServiceStartsFromCleanSlate(t *testing.T) {
	t.Parallel()
	testProgram(t)
	r := runCommand(t, nil, "/bin/sh", "-c", `trap "" HUP INT QUIT USR1 TSTP; exec "$@"`, "sh",
		self(t), supervisorName, "/bin/cat", "/proc/self/status")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	hup := fmt.Sprintf("%016x", 1<<(unix.SIGHUP-1))
	none := fmt.Sprintf("%016x", 0)
	for line, want := range map[string]string{"SigIgn": hup, "SigBlk": none, "SigCgt": none, "ShdPnd": none, "SigPnd": none} {
		if !strings.Contains(r.stdout, line+":\t"+want+"\n") {
			t.Errorf("%s is not %s:\n%s", line, want, r.stdout)
		}
	}
}

// Not parallel: the mask is the main thread's, and everything is forked there.
func TestServiceStartsUnblocked(t *testing.T) {
	testProgram(t)
	var block, old, after unix.Sigset_t
	for i := range block.Val {
		block.Val[i] = ^block.Val[i]
	}
	onMain(func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &block, &old) })
	s := launchService(t, letRun, nil, nil, "/bin/sh", "-c", `case $(grep SigBlk: /proc/$$/status) in *0000000000000000) ;; *) exit 1 ;; esac`)
	// Start itself blocks SIGHUP for a moment, and leaves the mask as it was.
	onMain(func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, &after) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.exits(t, 0)
	unblockable := uint64(1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1))
	if after.Val[0]|unblockable != block.Val[0] && after.Val[0]&^old.Val[0] == 0 {
		t.Errorf("the mask is %x after Start, and was %x", after.Val[0], block.Val[0])
	}
}

func TestServiceIsInItsOwnGroup(t *testing.T) {
	t.Parallel()
	s, p := launchPuppet(t, letRun, nil)
	if group := p.Must(t, 0, unix.SYS_GETPGID, 0); group != s.pid {
		t.Errorf("process %d is in group %d", s.pid, group)
	}
	// With CAP_SYS_ADMIN, which a container's root may lack, the kernel does not ask for it.
	if r := p.Call(t, 0, unix.SYS_PRCTL, unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); r.Errno != 0 || (r.Value == 0) != mayAdminister(t) {
		t.Errorf("no_new_privs is %d, %v; CAP_SYS_ADMIN: %v", r.Value, r.Errno, mayAdminister(t))
	}
}

func mayAdminister(t *testing.T) bool {
	t.Helper()
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func TestServiceEnvironmentAndLimits(t *testing.T) {
	t.Parallel()
	testProgram(t)
	dir := t.TempDir()
	// The Go runtime raises the soft limit for itself.
	r := runCommand(t, func(cmd *exec.Cmd) { cmd.Dir = dir }, "/bin/sh", "-c", `ulimit -S -n 123; exec "$@"`, "sh",
		self(t), supervisorName, "/bin/sh", "-c", "ulimit -S -n; pwd -P; echo $0 $1", "zero", "one")
	if want := "123\n" + dir + "\nzero one\n"; r.code != 0 || r.stdout != want {
		t.Errorf("%+v, want %q", r, want)
	}
	environment := []string{"A=1", "EMPTY=", "B=two  words\nand a line", "GORACE=" + os.Getenv("GORACE")}
	r = runCommand(t, func(cmd *exec.Cmd) { cmd.Env = environment }, self(t), supervisorName, "/bin/cat", "/proc/self/environ")
	if want := strings.Join(environment, "\x00") + "\x00"; r.code != 0 || r.stdout != want {
		t.Errorf("%+v, want %q", r, want)
	}
}

// What is above 2 and not close-on-exec was meant for the service, and keeps its number.
func TestServiceInherits(t *testing.T) {
	t.Parallel()
	testProgram(t)
	files := make([]*os.File, 3)
	var links []string
	for i, name := range []string{"three", "six", "seven"} {
		f, err := os.Create(file(t, name, "", 0o644))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
		links = append(links, f.Name())
	}
	r := runCommand(t, func(cmd *exec.Cmd) {
		cmd.ExtraFiles = []*os.File{files[0], nil, nil, files[1], files[2]}
	}, self(t), supervisorName, "ls", "-l", "/proc/self/fd/")
	want := map[string]string{"3": links[0], "6": links[1], "7": links[2]}
	ours := leak.Open() // what started the tests may have left some open for everybody
	for line := range strings.Lines(r.stdout) {
		before, link, found := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
		if !found {
			continue
		}
		number := before[strings.LastIndexByte(before, ' ')+1:]
		fd, err := strconv.Atoi(number)
		switch {
		case err != nil:
			t.Errorf("%q", line)
		case want[number] != "":
			if link != want[number] {
				t.Errorf("%s is %s, want %s", number, link, want[number])
			}
			delete(want, number)
		case fd > 2 && link != ours[fd] && !strings.HasPrefix(link, "/proc/"): // the directory that ls lists
			t.Errorf("the service has %s, %s", number, link)
		}
	}
	if r.code != 0 || len(want) > 0 {
		t.Errorf("not inherited: %v; %+v", want, r)
	}
}
