package notify

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		command string
		code    int
	}{
		{"/bin/true", 0},
		{"true", 0},
		{"/bin/sh -c exit$IFS'7'", 7},
		{"sh -c kill$IFS-9$IFS$$", -1},
	} {
		t.Run(test.command, func(t *testing.T) {
			t.Parallel()
			s := launchService(t, letRun, nil, nil, strings.Split(test.command, " ")...)
			if s.err != nil {
				t.Fatal(s.err)
			}
			s.hungUp(t)
			if status := s.wait(t); test.code < 0 && status.Signal() != unix.SIGKILL || test.code >= 0 && status.ExitStatus() != test.code {
				t.Errorf("status %#x", status)
			}
		})
	}
}

// file writes a file of the test's own.
func file(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	plain := file(t, "plain", "echo", 0o644)
	for _, test := range []struct {
		name, command string
		errno         unix.Errno
		code          int
		message       string
		handedOver    bool
	}{
		{"not found in PATH", "no-such-command-anywhere", unix.ENOENT, 127, "not found", false},
		{"not found", "/no/such/file", unix.ENOENT, 127, "not found", false},
		{"below a file", plain + "/file", unix.ENOTDIR, 127, "not a directory", false},
		{"a directory", t.TempDir(), unix.EACCES, 126, "not executable", false},
		{"not executable", plain, unix.EACCES, 126, "chmod +x", false},
		{"no interpreter", file(t, "script", "#!/no/such/interpreter\n", 0o755), unix.ENOENT, 127, "cannot execute", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := launchService(t, letRun, nil, nil, test.command)
			if handedOver := s.served != nil; handedOver != test.handedOver {
				t.Errorf("the listener was handed over: %v", handedOver)
			}
			var e *LaunchError
			if !errors.As(s.err, &e) {
				t.Fatalf("%v", s.err)
			}
			if !errors.Is(s.err, test.errno) || e.Command != test.command || e.ExitStatus() != test.code {
				t.Errorf("%+v, exit status %d", e, e.ExitStatus())
			}
			if text := e.Error(); !strings.Contains(text, test.message) || !strings.Contains(text, test.command) || strings.Contains(text, "\n") {
				t.Errorf("%q", text)
			}
			s.exits(t, test.code)
			if s.served != nil {
				s.hungUp(t)
			}
		})
	}
}

// execve does not know it; shells run it.
func TestStartScriptWithoutInterpreter(t *testing.T) {
	t.Parallel()
	s := launchService(t, letRun, nil, nil, file(t, "script", "[ \"$0 $1\" = \"$2 a  b\" ] && exit 9\n", 0o755), "a  b", "x")
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.exits(t, 1)
	path := file(t, "script", "[ \"$0,$1\" = \"$2,a  b\" ] && exit 9\n", 0o755)
	s = launchService(t, letRun, nil, nil, path, "a  b", path)
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.exits(t, 9)
}

// The kernel takes one listener per filter chain.
func TestStartUnderListener(t *testing.T) {
	t.Parallel()
	testProgram(t)
	r := runCommand(t, nil, self(t), supervisorName, self(t), supervisorName, "/bin/true")
	if r.code != 125 || !strings.Contains(r.stderr, "do not run huptime under huptime") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("%+v", r)
	}
}

// A launcher is killed before it is handed its filter, and while it waits for it.
func TestLauncherDies(t *testing.T) {
	t.Parallel()
	program := testProgram(t)
	for _, stopped := range []bool{false, true} {
		var l *Launcher
		var err error
		onMain(func() {
			if l, err = Start(Launch{Command: []string{"true"}, Program: program}); err == nil && stopped {
				err = unix.Kill(l.PID, unix.SIGSTOP)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		shaken := make(chan error)
		if !stopped {
			_ = unix.Kill(l.PID, unix.SIGKILL)
		}
		go func() { // ends when the launcher does
			shaken <- l.Handshake(func(*Listener) { t.Error("a listener of a dead launcher") })
		}()
		if stopped {
			// The instructions are in the socket now, or will not be taken.
			_ = unix.Kill(l.PID, unix.SIGKILL)
		}
		if err := <-shaken; !errors.Is(err, ErrLauncherDied) || !strings.Contains(err.Error(), "cannot run true") {
			t.Errorf("%v", err)
		}
		if _, err := unix.Wait4(l.PID, nil, 0, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestStartRefusesNoProgram(t *testing.T) {
	t.Parallel()
	if l, err := Start(Launch{Command: []string{"true"}}); err == nil {
		l.Discard()
		t.Error("started without a program")
	}
}

func TestStartIdle(t *testing.T) {
	t.Parallel()
	var l *Launcher
	var err error
	onMain(func() { l, err = StartIdle() })
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(l.PID, 0); err != nil {
		t.Error(err)
	}
	l.Discard()
	if err := unix.Kill(l.PID, 0); err != unix.ESRCH {
		t.Errorf("after Discard: %v", err)
	}
}

// What can't be told before: whether a filter is installed. Nothing is left behind.
func TestTry(t *testing.T) {
	t.Parallel()
	program := testProgram(t)
	var good, bad error
	onMain(func() {
		good = Try(program, "service")
		bad = Try(Program{{Code: 0xffff}}, "service")
	})
	if good != nil {
		t.Error(good)
	}
	if !errors.Is(bad, ErrUnsupported) || !errors.Is(bad, unix.EINVAL) || !strings.Contains(bad.Error(), "cannot run service") {
		t.Errorf("%v", bad)
	}
}

func TestDescriptorTable(t *testing.T) {
	t.Parallel()
	const none = ^uintptr(0)
	for _, test := range []struct {
		inherited []int
		passed    []int
		control   int
		files     []uintptr
		at        int
	}{
		{nil, nil, 9, []uintptr{0, 1, 2, 9}, 3},
		{nil, nil, 3, []uintptr{0, 1, 2, 3}, 3},
		{[]int{3}, nil, 9, []uintptr{0, 1, 2, 3, 9}, 4},
		{[]int{3, 4, 5}, nil, 9, []uintptr{0, 1, 2, 3, 4, 5, 9}, 6},
		{[]int{5}, nil, 9, []uintptr{0, 1, 2, 9, none, 5}, 3},
		{[]int{7, 3}, nil, 12, []uintptr{0, 1, 2, 3, 12, none, none, 7}, 4},
		{[]int{4}, nil, 3, []uintptr{0, 1, 2, 3, 4}, 3},
		{nil, []int{8, 3}, 9, []uintptr{0, 1, 2, 8, 3, 9}, 5},
		{[]int{6}, []int{8}, 9, []uintptr{0, 1, 2, 8, 9, none, 6}, 4},
	} {
		files, at := descriptorTable(test.passed, test.inherited, test.control)
		if !slices.Equal(files, test.files) || at != test.at {
			t.Errorf("%v, %d: %v, %d, want %v, %d", test.inherited, test.control, files, at, test.files, test.at)
		}
	}
}
