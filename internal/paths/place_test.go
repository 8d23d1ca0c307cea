package paths

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][2]string{
		"x": {"", "x"}, "/x": {"/", "x"}, "a/b/x": {"a/b/", "x"}, "//a//x": {"//a//", "x"}, "../x": {"../", "x"},
		"...": {"", "..."}, ".x": {"", ".x"}, "\xff/\n": {"\xff/", "\n"},
	} {
		if dir, name, err := Split(path); err != nil || dir != want[0] || name != want[1] {
			t.Errorf("Split(%q) = %q, %q, %v", path, dir, name, err)
		}
	}
	for _, path := range []string{"", "/", "x/", "/x//", ".", "..", "a/.", "a/..", "x\x00y"} {
		if _, _, err := Split(path); err != ErrNoPlace {
			t.Errorf("Split(%q): %v", path, err)
		}
	}
}

// tree is a directory that serves as a root, with links that lead up, out and round.
func tree(t testing.TB) string {
	root := t.TempDir()
	for _, dir := range []string{"run/app", "var", "srv/a/b"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"var/run": "/run", "srv/current": "a/../a/b", "srv/up": "../..", "srv/out": "../../../../../../run", "srv/loop": "loop", "srv/a/ping": "pong",
		"srv/a/pong": "ping", "dangling": "/nowhere", "tofile": "file", "srv/a/b/root": "/", "slashes": "//run//app//", "dot": ".", "srv/dot": "./././a",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// walkIn walks from a directory of a root, and returns what is there.
func walkIn(t testing.TB, root, start, path string) (unix.Stat_t, error) {
	t.Helper()
	r, err := openDirectory(root)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(r)
	at, err := openDirectory(filepath.Join(root, start))
	if err != nil {
		t.Fatal(err)
	}
	w := walker{tid: os.Getpid(), root: r, at: at}
	err = w.walk(path)
	defer unix.Close(w.at)
	if err != nil {
		return unix.Stat_t{}, err
	}
	st, err := status(w.at)
	if err != nil {
		t.Fatal(err)
	}
	return st, nil
}

func TestWalk(t *testing.T) {
	t.Parallel()
	root := tree(t)
	for _, test := range []struct {
		start, path, want string
		err               error
	}{
		{"", "", "", nil}, {"", "/", "", nil}, {"srv/a", "", "srv/a", nil}, {"srv/a", "/", "", nil},
		{"srv/a", "b", "srv/a/b", nil}, {"srv/a", "b/..", "srv/a", nil}, {"srv/a", "../../run/./app/", "run/app", nil},
		{"srv/a", "../../../../../..", "", nil}, {"", "..", "", nil}, {"", "var/run/app", "run/app", nil}, {"srv", "/var/run/../var", "var", nil},
		{"srv", "current", "srv/a/b", nil}, {"srv", "current/..", "srv/a", nil}, {"srv", "up", "", nil}, {"", "/srv/out/app", "run/app", nil},
		{"srv/a/b", "root/run", "run", nil}, {"", "slashes", "run/app", nil}, {"", "dot/dot/dot/run", "run", nil}, {"", "srv/dot/b", "srv/a/b", nil},
		{"", "nothing", "", unix.ENOENT}, {"", "dangling", "", unix.ENOENT}, {"", "file", "", unix.ENOTDIR}, {"", "file/..", "", unix.ENOTDIR},
		{"", "tofile", "", unix.ENOTDIR}, {"srv", "loop", "", unix.ELOOP}, {"srv/a", "ping", "", unix.ELOOP},
	} {
		got, err := walkIn(t, root, test.start, test.path)
		if !errors.Is(err, test.err) {
			t.Errorf("%q from %q: %v, want %v", test.path, test.start, err, test.err)
			continue
		}
		var want unix.Stat_t
		if test.err == nil {
			if err := unix.Stat(filepath.Join(root, test.want), &want); err != nil {
				t.Fatal(err)
			}
		}
		if got.Ino != want.Ino || got.Dev != want.Dev {
			t.Errorf("%q from %q is not %q", test.path, test.start, test.want)
		}
	}
}

// kernelWalk is what openat2(2) says.
func kernelWalk(root, path string) (unix.Stat_t, error) {
	r, err := openDirectory(root)
	if err != nil {
		return unix.Stat_t{}, err
	}
	defer unix.Close(r)
	if path == "" {
		path = "."
	}
	fd, err := unix.Openat2(r, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return unix.Stat_t{}, err
	}
	defer unix.Close(fd)
	return status(fd)
}

// compare checks one path against the kernel's own walk.
func compare(t *testing.T, root, path string) {
	t.Helper()
	want, errWant := kernelWalk(root, path)
	if errWant == unix.ENOSYS || errWant == unix.EPERM {
		t.Skip("unsupported here: openat2:", errWant)
	}
	got, err := walkIn(t, root, "", path)
	if (err == nil) != (errWant == nil) || got.Dev != want.Dev || got.Ino != want.Ino {
		t.Errorf("%q: inode %d, %v; the kernel: inode %d, %v", path, got.Ino, err, want.Ino, errWant)
	}
}

func TestWalkAgainstKernel(t *testing.T) {
	t.Parallel()
	root := tree(t)
	parts := []string{"run", "app", "var", "srv", "a", "b", "current", "up", "out", "root", "slashes", "dot", "tofile", "dangling", "loop", "..", "..", ".", "", "file"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var path []string
		for range 1 + random.IntN(6) {
			path = append(path, parts[random.IntN(len(parts))])
		}
		if compare(t, root, strings.Join(path, "/")); t.Failed() {
			return
		}
	}
}

func FuzzWalk(f *testing.F) {
	root := tree(f)
	f.Add("/var/run/app/../x")
	f.Add("srv/a/b/root/../srv/current")
	f.Fuzz(func(t *testing.T, path string) {
		if dir, name, err := Split(path); err == nil && (dir+name != path || strings.Contains(name, "/") || name == "") {
			t.Errorf("Split(%q) = %q, %q", path, dir, name)
		}
		if strings.IndexByte(path, 0) < 0 && len(path) < unix.PathMax {
			compare(t, root, path)
		}
	})
}

func TestOwn(t *testing.T) {
	t.Parallel()
	root := tree(t)
	var dir unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "run/app"), &dir); err != nil {
		t.Fatal(err)
	}
	want := Place{Dev: uint64(dir.Dev), Ino: dir.Ino, Name: "x.pid"}
	for _, path := range []string{"run/app/x.pid", "srv/../run//app/./x.pid", "run/app/../app/x.pid"} {
		f, err := Own(filepath.Join(root) + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Place != want {
			t.Errorf("%q: %+v, want %+v", path, f.Place, want)
		}
		if _, err := f.Stat(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
		f.Close()
	}
	fd, err := openDirectory(filepath.Join(root, "run"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	f, err := OfThread(os.Getpid(), fd, "app/x.pid")
	if err != nil || f.Place != want {
		t.Fatalf("%+v, %v", f, err)
	}
	f.Close()
	// A program that has no openat, or a path too long for bind, goes by way of /proc.
	for _, path := range []string{"/proc/self/fd/%d/app/x.pid", "/proc/thread-self/fd/%d/app/x.pid", "/proc/self/root/proc/self/fd/%d/app/x.pid"} {
		path = strings.Replace(path, "%d", strconv.Itoa(fd), 1)
		f, err := Own(path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		if f.Place != want {
			t.Errorf("%q: %+v, want %+v", path, f.Place, want)
		}
		f.Close()
	}
	for path, want := range map[string]error{
		"": ErrNoPlace, root + "/run/": ErrNoPlace, root + "/nothing/x": os.ErrNotExist, root + "/file/x": unix.ENOTDIR,
	} {
		if _, err := Own(path); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
	if _, err := OfThread(os.Getpid(), 1<<20, "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a descriptor that is not open: %v", err)
	}
}
