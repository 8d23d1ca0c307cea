package pidfile

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ownerName makes the test binary a program that owns a pid file until its standard input ends.
const ownerName = "pidfile-owner"

// fullName makes it one that can't write to any file.
const fullName = "pidfile-full"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == fullName {
		// As good as a full disk: no file may have one byte.
		signal.Ignore(unix.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Args[1] = ownerName
	}
	if len(os.Args) == 3 && os.Args[1] == ownerName {
		f, err := Create(os.Args[2])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("owns it")
		_, _ = io.Copy(io.Discard, os.Stdin)
		f.Remove()
		os.Exit(0)
	}
	// With the race detector every program that ends would otherwise sleep for a second.
	if err := os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0")); err != nil {
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// owning is a process that owns a pid file, or was refused.
type owning struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	says   string
}

func own(t *testing.T, path string) *owning {
	t.Helper()
	o := begin(t, path)
	o.hear()
	return o
}

// hear waits for what it says.
func (o *owning) hear() { o.says, _ = o.stdout.ReadString('\n') }

// begin starts one and does not wait for what it says.
func begin(t *testing.T, path string) *owning { t.Helper(); return beginAs(t, ownerName, path) }

func beginAs(t *testing.T, name, path string) *owning {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := &owning{cmd: exec.Command(self, name, path)}
	stdin, err := o.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	o.stdin = stdin
	stdout, err := o.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.cmd.Process.Kill(); _ = o.cmd.Wait() })
	o.stdout = bufio.NewReader(stdout)
	return o
}

func (o *owning) owns() bool { return o.says == "owns it\n" }

func (o *owning) end() { o.stdin.Close(); _ = o.cmd.Wait() }

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// alone fails the test where anything is in the directory but the names.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("the directory has %q, want %q", got, names)
	}
}

// TestFaultD8FullDisk: a file that can't be written is an error in one line, and nothing is left; what was there before
// stays as it was.
func TestFaultD8FullDisk(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"none": "", "stale": "4194305\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "pid")
			var names []string
			if before != "" {
				names = []string{"pid"}
				if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			o := beginAs(t, fullName, path)
			o.hear()
			if !strings.HasPrefix(o.says, "cannot use the pid file "+path+": ") || !strings.HasSuffix(o.says, "\n") {
				t.Errorf("it says %q", o.says)
			}
			if err := o.cmd.Wait(); err == nil || o.cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("it ends with %v", err)
			}
			alone(t, dir, names...)
			if before != "" && content(t, path) != before {
				t.Errorf("the file has %q now", content(t, path))
			}
		})
	}
}

func TestOneOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	first := own(t, path)
	if !first.owns() || content(t, path) != fmt.Sprintf("%d\n", first.cmd.Process.Pid) {
		t.Fatalf("%q, %q", first.says, content(t, path))
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o644 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	second := own(t, path)
	if want := fmt.Sprintf("(PID %d)", first.cmd.Process.Pid); !strings.Contains(second.says, want) || !strings.Contains(second.says, path) {
		t.Errorf("the second one says %q", second.says)
	}
	alone(t, dir, "pid")
	first.end()
	alone(t, dir)
}

func TestStaleFiles(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "not a number\n", "1\n", fmt.Sprintf("%d\n", os.Getpid())} {
		dir := t.TempDir()
		path := filepath.Join(dir, "pid")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := own(t, path)
		if !o.owns() || content(t, path) != fmt.Sprintf("%d\n", o.cmd.Process.Pid) {
			t.Errorf("over %q: %q, %q", text, o.says, content(t, path))
		}
		o.end()
		alone(t, dir)
	}
}

func TestKilledOwner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	first := own(t, path)
	_ = first.cmd.Process.Kill()
	_ = first.cmd.Wait()
	if content(t, path) == "" {
		t.Error("the file is empty")
	}
	if second := own(t, path); !second.owns() {
		t.Errorf("after a kill: %q", second.says)
	}
}

// What has become somebody else's is left alone.
func TestNotOursAnyMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	first := own(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := own(t, path)
	if !second.owns() {
		t.Fatal(second.says)
	}
	first.end()
	if content(t, path) != fmt.Sprintf("%d\n", second.cmd.Process.Pid) {
		t.Error("the first one took the second one's file")
	}
	second.end()
	alone(t, dir)
}

// However many start at once, one owns the file: with none there, and with a stale one.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, stale := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "pid")
		if stale {
			if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var all []*owning
		for range 8 {
			all = append(all, begin(t, path))
		}
		owners := 0
		for _, o := range all {
			o.hear()
			if o.owns() {
				owners++
				defer o.end()
			} else if !strings.Contains(o.says, "live huptime owns it") {
				t.Errorf("%q", o.says)
			}
		}
		if owners != 1 {
			t.Errorf("%d owners", owners)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, link, socket := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "socket")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(socket, unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		dir:                             "no regular file",
		fifo:                            "no regular file",
		socket:                          "no regular file",
		link:                            "symbolic link",
		filepath.Join(dir, "no", "pid"): "no such file or directory; check the directory",
		filepath.Join(fifo, "pid"):      "not a directory; check the directory",
	} {
		f, err := Create(path)
		if err == nil {
			f.Remove()
		}
		if err == nil || !strings.Contains(err.Error(), says) || strings.Count(err.Error(), path) != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", path, err, says)
		}
	}
	alone(t, dir, "fifo", "link", "socket")
}
