package sockets

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Whose the file is: the current generation removes it, one that has a successor does not, and one whose successor has
// failed does again.
func TestKeptFile(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		dir := t.TempDir()
		file, other := filepath.Join(dir, "x.pid"), filepath.Join(dir, "y.pid")
		g := launch(t, 1, level, nil, NewKnocks(), 0)
		g.tracker.files = []string{file, filepath.Join(dir, "missing/z.pid")}
		handsOver := false
		check := func(path string, kept bool, call func() unix.Errno) {
			t.Helper()
			touch(t, path)
			if errno := call(); errno != 0 || exists(path) != kept {
				t.Errorf("%s, handsOver: %v: %v; it exists: %v, want %v", path, handsOver, errno, exists(path), kept)
			}
		}
		all := func() {
			t.Helper()
			check(file, handsOver, func() unix.Errno { return g.unlink(t, file) })
			check(file, handsOver, func() unix.Errno { return g.unlink(t, dir+"/./../"+filepath.Base(dir)+"/x.pid") })
			check(file, handsOver, func() unix.Errno { return g.rename(t, file, dir+"/x.pid.oldbin") })
			check(other, false, func() unix.Errno { return g.unlink(t, other) })
			touch(t, file)
			touch(t, other)
			before, _ := os.Stat(file)
			if errno := g.rename(t, other, file); errno != 0 {
				t.Error(errno)
			}
			if after, err := os.Stat(file); err != nil || os.SameFile(before, after) != handsOver {
				t.Errorf("handsOver: %v; a rename onto it: %v", handsOver, err)
			}
		}
		all()
		g.tracker.HandOver(&Preserved{})
		handsOver = true
		all()
		g.tracker.HandOver(nil)
		handsOver = false
		all()
	})
}

// The directory is the thread's own.
func TestKeptFileByWorkingDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "x.pid")
	touch(t, file)
	g := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	g.tracker.files = []string{file}
	g.tracker.HandOver(&Preserved{})
	if errno := g.unlink(t, "x.pid"); errno != unix.ENOENT {
		t.Errorf("elsewhere: %v", errno)
	}
	g.Must(t, 0, unix.SYS_CHDIR, cpath(dir))
	if errno := g.unlink(t, "x.pid"); errno != 0 || !exists(file) {
		t.Errorf("here: %v", errno)
	}
	// In a root of its own, where that is permitted: the same file has another path.
	if r := g.Call(t, 0, unix.SYS_CHROOT, cpath(dir)); r.Errno != 0 {
		t.Skip("unsupported here: chroot:", r.Errno)
	}
	g.Must(t, 0, unix.SYS_CHDIR, cpath("/"))
	for _, path := range []string{"/x.pid", "x.pid", "/../../x.pid"} {
		if errno := g.unlink(t, path); errno != 0 || !exists(file) {
			t.Errorf("%q in its own root: %v", path, errno)
		}
	}
	if errno := g.unlink(t, file); errno != unix.ENOENT {
		t.Errorf("the supervisor's path in another root: %v", errno)
	}
}

// A thread in a mount namespace of its own sees the directory elsewhere.
func TestKeptFileInMountNamespace(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "x.pid")
	touch(t, file)
	g := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	g.tracker.files = []string{file}
	g.tracker.HandOver(&Preserved{})
	if r := g.Call(t, 1, unix.SYS_UNSHARE, unix.CLONE_NEWNS); r.Errno != 0 {
		t.Skip("unsupported here: unshare:", r.Errno)
	}
	g.Must(t, 1, unix.SYS_MOUNT, cpath("none"), cpath("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	g.Must(t, 1, unix.SYS_MOUNT, cpath(dir), cpath(elsewhere), 0, unix.MS_BIND, 0)
	g.Must(t, 1, unix.SYS_MOUNT, cpath("none"), cpath(dir), cpath("tmpfs"), 0, 0)
	if r := g.Call(t, 1, unix.SYS_UNLINKAT, unix.AT_FDCWD, cpath(elsewhere+"/x.pid"), 0); r.Errno != 0 || !exists(file) {
		t.Errorf("by its other path: %v", r.Errno)
	}
	if r := g.Call(t, 1, unix.SYS_UNLINKAT, unix.AT_FDCWD, cpath(elsewhere+"/../"+filepath.Base(elsewhere)+"/x.pid"), 0); r.Errno != 0 || !exists(file) {
		t.Errorf("up from its mount and down again: %v", r.Errno)
	}
	// What the supervisor calls the file is another one there: a tmpfs hides it.
	made := g.Must(t, 1, unix.SYS_OPENAT, unix.AT_FDCWD, cpath(file), unix.O_CREAT|unix.O_WRONLY, 0o644)
	g.Must(t, 1, unix.SYS_CLOSE, made)
	if r := g.Call(t, 1, unix.SYS_UNLINKAT, unix.AT_FDCWD, cpath(file), 0); r.Errno != 0 {
		t.Errorf("the file that it hides: %v", r.Errno)
	}
	if r := g.Call(t, 1, unix.SYS_UNLINKAT, unix.AT_FDCWD, cpath(file), 0); r.Errno != unix.ENOENT {
		t.Errorf("the file that it hides was kept: %v", r.Errno)
	}
}

// What can't be looked at runs.
func TestKeptFileOfOpaqueProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "x.pid")
	touch(t, file)
	g := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	g.tracker.files = []string{file}
	g.tracker.HandOver(&Preserved{})
	g.Must(t, 0, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if _, err := os.Readlink("/proc/" + strconv.Itoa(g.PID) + "/root"); err == nil {
		t.Skip("unsupported here: a process that this one may not look into; it may look into all")
	}
	if errno := g.unlink(t, file); errno != 0 || exists(file) {
		t.Errorf("%v; it exists: %v", errno, exists(file))
	}
}
