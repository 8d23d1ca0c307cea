package notify

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// runPlain runs a command without a filter and returns what it printed on both streams, its code and Handshake's error.
func runPlain(t *testing.T, launch Launch) (string, int, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := os.Open(file(t, "in", "input\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	launch.Unfiltered = true
	launch.Stdio = &[3]int{int(in.Fd()), int(out.Fd()), int(out.Fd())}
	var l *Launcher
	onMain(func() { l, err = Start(launch) })
	if err != nil {
		t.Fatal(err)
	}
	failure := l.Handshake(nil)
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(l.PID, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), status.ExitStatus(), failure
}

// A program that is no service has the streams, the environment and the directory that it was given, and no filter.
func TestStartUnfiltered(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mine, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	text, code, err := runPlain(t, Launch{
		Command: []string{"sh", "-c", "cat; pwd -P; echo error >&2; grep Seccomp: /proc/self/status; env | grep -v ^PWD= | grep -v ^_= | sort; exit 5"},
		Env:     []string{"A=1", "PATH=" + os.Getenv("PATH")},
		Dir:     dir,
	})
	seccomp := ""
	for line := range strings.Lines(string(mine)) {
		if strings.HasPrefix(line, "Seccomp:") {
			seccomp = line
		}
	}
	want := "input\n" + dir + "\nerror\n" + seccomp + "A=1\nPATH=" + os.Getenv("PATH") + "\n"
	// Some shells export more of their own accord.
	text = strings.NewReplacer("OLDPWD=\n", "", "SHLVL=0\n", "", "SHLVL=1\n", "").Replace(text)
	if err != nil || code != 5 || text != want {
		t.Errorf("%q, %d, %v; want %q", text, code, err, want)
	}
}

// The command is looked up as after cd, in the PATH that it gets.
func TestStartLooksUpInItsSetting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "tool"), []byte("#!/bin/sh\necho found\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command, path, dir string
		code               int
	}{
		{"tool", dir + "/sub", "", 0},
		{"tool", "sub", dir, 0},
		{"./tool", "", dir + "/sub", 0},
		{"sub/tool", "", dir, 0},
		{"tool", "sub", dir + "/sub", 127},
		{"sub/tool", "", dir + "/sub", 127},
	} {
		text, code, err := runPlain(t, Launch{Command: []string{test.command}, Env: []string{"PATH=" + test.path}, Dir: test.dir})
		if code != test.code || (err == nil) != (code == 0) || (text == "found\n") != (code == 0) {
			t.Errorf("%+v: %q, %d, %v", test, text, code, err)
		}
	}
}

// A directory that can't be entered is huptime's failure; it need not be UTF-8.
func TestStartWithoutItsDirectory(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "no\xffdir")
	_, code, err := runPlain(t, Launch{Command: []string{"true"}, Dir: missing})
	var e *LaunchError
	if code != 125 || !errors.As(err, &e) || e.Errno != unix.ENOENT || !strings.Contains(e.Error(), filepath.Dir(missing)) || strings.Contains(e.Error(), "\n") {
		t.Errorf("%d, %v", code, err)
	}
	if err := os.Mkdir(missing, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, code, err := runPlain(t, Launch{Command: []string{"true"}, Dir: missing}); code != 0 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
}
