package sockets

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

func rawUnix(name string) []byte {
	b := append(puppets.Sockaddr(unix.AF_UNIX), name...)
	if name[0] != 0 {
		b = append(b, 0)
	}
	return b
}

func cpath(path string) []byte { return append([]byte(path), 0) }

// bindUnix makes and binds a unix socket. An abstract name begins with a NUL.
func (p *puppet) bindUnix(t *testing.T, kind int, name string) int {
	t.Helper()
	fd := p.Must(t, 0, unix.SYS_SOCKET, unix.AF_UNIX, kind, 0)
	raw := rawUnix(name)
	p.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))
	return fd
}

func (p *puppet) listenUnix(t *testing.T, kind int, name string) int {
	t.Helper()
	fd := p.bindUnix(t, kind, name)
	p.Must(t, 0, unix.SYS_LISTEN, fd, 16)
	return fd
}

// unlink makes the puppet remove a path, and returns what the call said.
func (p *puppet) unlink(t *testing.T, path string) unix.Errno {
	t.Helper()
	return p.Call(t, 0, unix.SYS_UNLINKAT, unix.AT_FDCWD, cpath(path), 0).Errno
}

func (p *puppet) rename(t *testing.T, from, to string) unix.Errno {
	t.Helper()
	return p.Call(t, 0, unix.SYS_RENAMEAT2, unix.AT_FDCWD, cpath(from), unix.AT_FDCWD, cpath(to), 0).Errno
}

// servesUnix makes a client's connection, which the puppet must get.
func servesUnix(t *testing.T, p *puppet, fd int, network, name string) (client *net.UnixConn, accepted int) {
	t.Helper()
	client = puppets.DialUnix(t, network, name)
	accepted = p.Must(t, 0, unix.SYS_ACCEPT4, fd, 0, 0, 0)
	p.Must(t, 0, unix.SYS_WRITE, accepted, []byte("hello"), 5)
	buf := make([]byte, 8)
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	return client, accepted
}

func unixSocketExists(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode()&os.ModeSocket != 0
}

// A whole restart: nobody loses a connection, and each is seen to be whose it is.
func TestUnixRestart(t *testing.T) {
	for kindName, kind := range map[string]int{"stream": unix.SOCK_STREAM, "seqpacket": unix.SOCK_SEQPACKET} {
		network := map[string]string{"stream": "unix", "seqpacket": "unixpacket"}[kindName]
		t.Run(kindName, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level notify.Level) {
				for nameKind, name := range puppets.UnixNames(t) {
					knocks := NewKnocks()
					old := launch(t, 1, level, nil, knocks, 0)
					fd := old.listenUnix(t, kind, name)
					if nameKind == "path" {
						if err := os.Chmod(name, 0o751); err != nil {
							t.Fatal(err)
						}
					}
					_, held := servesUnix(t, old.puppet, fd, network, name)
					p := collect(t, old)
					if n := len(p.Sockets()); n != 1 {
						t.Fatalf("%s: %d sockets", nameKind, n)
					}
					puppets.DialUnix(t, network, name) // waits in the queue
					old.tracker.HandOver(p)
					next := launch(t, 2, level, p, knocks, 0)
					if nameKind == "path" {
						if errno := next.unlink(t, name); errno != 0 || !unixSocketExists(name) {
							t.Fatalf("the path was removed, or not: %v", errno)
						}
					}
					at := next.listenUnix(t, kind, name)
					if next.inode(t, at) != old.inode(t, fd) {
						t.Fatalf("%s: not planted", nameKind)
					}
					if err := old.tracker.Gate(t.Context(), p.Claimed()); err != nil {
						t.Fatal(err)
					}
					p.ReleaseClaimed()
					next.Must(t, 0, unix.SYS_ACCEPT4, at, 0, 0, 0)
					for range 3 {
						servesUnix(t, next.puppet, at, network, name)
					}
					puppets.DialUnix(t, network, name) // nobody's yet
					r := &restarted{old: old, new: next, preserved: p}
					r.outstanding(t, 1)
					old.Must(t, 0, unix.SYS_CLOSE, held)
					r.outstanding(t, 0)
					if nameKind == "path" {
						if errno := old.unlink(t, name); errno != 0 || !unixSocketExists(name) {
							t.Errorf("the old generation took the path away: %v", errno)
						}
						if st, err := os.Lstat(name); err != nil || st.Mode().Perm() != 0o751 {
							t.Errorf("mode %v, %v", st.Mode(), err)
						}
					}
					// The next restart finds it as this one did.
					if again := collect(t, next); len(again.Sockets()) != 1 || again.Sockets()[0].Key != p.Sockets()[0].Key {
						t.Errorf("%s: collected again: %v", nameKind, again.Sockets())
					}
				}
			})
		})
	}
}

// A gated generation waits on, on the placeholder, and what waited in accept gets a phantom.
func TestUnixGateBlockedAccept(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		name := puppets.UnixNames(t)["path"]
		knocks := NewKnocks()
		old := launch(t, 1, level, nil, knocks, 0)
		fd := old.listenUnix(t, unix.SOCK_STREAM, name)
		waiting := blocked(t, old.puppet, 1, fd)
		p := collect(t, old)
		next := launch(t, 2, level, p, knocks, 0)
		at := next.listenUnix(t, unix.SOCK_STREAM, name)
		if err := old.tracker.Gate(t.Context(), p.Claimed()); err != nil {
			t.Fatal(err)
		}
		got := waiting.Wait(t)
		if got.Errno != 0 {
			t.Fatal(got.Errno)
		}
		readsEnd(t, old.puppet, 1, got.Value)
		old.Begin(t, 1, unix.SYS_ACCEPT4, fd, 0, 0, 0)
		for range 4 {
			servesUnix(t, next.puppet, at, "unix", name)
		}
	})
}

// However the path is written, it is the same socket's.
func TestUnixPathWritings(t *testing.T) {
	t.Parallel()
	dir := filepath.Dir(puppets.UnixNames(t)["path"])
	if err := os.MkdirAll(dir+"/sub/deep", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	knocks := NewKnocks()
	old := launch(t, 1, notify.LevelListeners, nil, knocks, 0)
	old.Must(t, 0, unix.SYS_CHDIR, cpath(dir+"/sub"))
	fd := old.listenUnix(t, unix.SOCK_STREAM, "s") // and then it becomes a daemon
	old.Must(t, 0, unix.SYS_CHDIR, cpath("/"))
	path := dir + "/sub/s"
	for _, written := range []struct{ cwd, path string }{
		{"/", path}, {dir, "sub/s"}, {dir, "./link/../link/s"}, {dir + "/sub/deep", "../s"}, {dir + "/link", "s"}, {"/", "/../" + dir + "//link/deep/../s"},
	} {
		p := collect(t, old)
		next := launch(t, 2, notify.LevelListeners, p, knocks, 0)
		next.Must(t, 0, unix.SYS_CHDIR, cpath(written.cwd))
		if errno := next.unlink(t, written.path); errno != 0 || !unixSocketExists(path) {
			t.Fatalf("%v: removed, or not: %v", written, errno)
		}
		at := next.listenUnix(t, unix.SOCK_STREAM, written.path)
		if next.inode(t, at) != old.inode(t, fd) {
			t.Errorf("%v: not planted", written)
		}
	}
	p := collect(t, old)
	next := launch(t, 2, notify.LevelListeners, p, knocks, 0)
	// A fixed number of other things are not the path.
	if err := os.WriteFile(dir+"/s", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if errno := next.unlink(t, dir+"/s"); errno != 0 {
		t.Error(errno)
	}
	if _, err := os.Lstat(dir + "/s"); err == nil {
		t.Error("a file of the same name in another directory was kept")
	}
	for bad, want := range map[string]unix.Errno{path + "/": unix.ENOTDIR, dir + "/none/s": unix.ENOENT, "": unix.ENOENT, dir + "/sub/t": unix.ENOENT} {
		if errno := next.unlink(t, bad); errno != want {
			t.Errorf("unlink(%q): %v, want %v", bad, errno, want)
		}
	}
	if r := next.Call(t, 0, unix.SYS_UNLINKAT, unix.AT_FDCWD, 16, 0); r.Errno != unix.EFAULT {
		t.Errorf("unlink of a bad address: %v", r.Errno)
	}
	if r := next.Call(t, 0, unix.SYS_UNLINKAT, unix.AT_FDCWD, cpath(path), unix.AT_REMOVEDIR); r.Errno != unix.ENOTDIR {
		t.Errorf("rmdir: %v", r.Errno)
	}
	sub := next.Must(t, 0, unix.SYS_OPENAT, unix.AT_FDCWD, cpath(dir+"/link"), unix.O_PATH, 0)
	if r := next.Call(t, 0, unix.SYS_UNLINKAT, sub, cpath("s"), 0); r.Errno != 0 || !unixSocketExists(path) {
		t.Errorf("by a directory: %v", r.Errno)
	}
	if errno := next.rename(t, path, dir+"/elsewhere"); errno != 0 || !unixSocketExists(path) {
		t.Errorf("moved away: %v", errno)
	}
}

// Programs that replace a socket in one step bind another name and rename it.
func TestUnixRenamedIntoPlace(t *testing.T) {
	t.Parallel()
	name := puppets.UnixNames(t)["path"]
	knocks := NewKnocks()
	old := launch(t, 1, notify.LevelListeners, nil, knocks, 0)
	fd := old.listenUnix(t, unix.SOCK_STREAM, name+".tmp")
	if errno := old.rename(t, name+".tmp", name); errno != 0 {
		t.Fatal(errno)
	}
	p := collect(t, old)
	old.tracker.HandOver(p)
	// The same other name: it is planted, and there is nothing to rename.
	next := launch(t, 2, notify.LevelListeners, p, knocks, 0)
	next.unlink(t, name+".tmp")
	at := next.listenUnix(t, unix.SOCK_STREAM, name+".tmp")
	if next.inode(t, at) != old.inode(t, fd) {
		t.Fatal("not planted")
	}
	if errno := next.rename(t, name+".tmp", name); errno != 0 || !unixSocketExists(name) {
		t.Fatal(errno)
	}
	servesUnix(t, next.puppet, at, "unix", name)
	// A new name each time: its own socket takes the path over, without a moment in which there is none.
	next = launch(t, 2, notify.LevelListeners, collect(t, old), knocks, 0)
	at = next.listenUnix(t, unix.SOCK_STREAM, name+".2")
	if errno := next.rename(t, name+".2", name); errno != 0 {
		t.Fatal(errno)
	}
	servesUnix(t, next.puppet, at, "unix", name)
	if _, err := os.Lstat(name + ".2"); err == nil {
		t.Error("it was not renamed")
	}
}

// A socket whose file somebody has taken away is of no use to clients: it is bound anew.
func TestUnixFileGone(t *testing.T) {
	t.Parallel()
	name := puppets.UnixNames(t)["path"]
	knocks := NewKnocks()
	old := launch(t, 1, notify.LevelListeners, nil, knocks, 0)
	fd := old.listenUnix(t, unix.SOCK_STREAM, name)
	p := collect(t, old)
	next := launch(t, 2, notify.LevelListeners, p, knocks, 0)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	at := next.listenUnix(t, unix.SOCK_STREAM, name)
	if next.inode(t, at) == old.inode(t, fd) {
		t.Error("planted a socket that no client finds")
	}
	servesUnix(t, next.puppet, at, "unix", name)
	if n := len(collect(t, old).Sockets()); n != 0 {
		t.Errorf("%d sockets were collected that have no file", n)
	}
	// Its file is another by now: the new one is what is removed.
	if errno := next.unlink(t, name); errno != 0 || unixSocketExists(name) {
		t.Errorf("the new socket's file was kept: %v", errno)
	}
}

// Names that the kernel chooses are never the same again.
func TestUnixAutobind(t *testing.T) {
	t.Parallel()
	old := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	fd := old.Must(t, 0, unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	old.Must(t, 0, unix.SYS_BIND, fd, puppets.Sockaddr(unix.AF_UNIX), 2)
	old.Must(t, 0, unix.SYS_LISTEN, fd, 1)
	if list := collect(t, old).Sockets(); len(list) != 0 {
		t.Errorf("collected: %v", list)
	}
}

// What the old generation was told to have removed is removed when nobody has claimed it.
func TestUnixWithheldUnlink(t *testing.T) {
	t.Parallel()
	name := puppets.UnixNames(t)["path"]
	old := launch(t, 1, notify.LevelListeners, nil, NewKnocks(), 0)
	old.listenUnix(t, unix.SOCK_STREAM, name)
	p := collect(t, old)
	old.tracker.HandOver(p)
	p.Close()
	if !unixSocketExists(name) {
		t.Fatal("a path was removed that nobody had asked for")
	}
	p = collect(t, old)
	if !p.HasFile(name) || p.HasFile(name+"x") || p.HasFile("/") || (*Preserved)(nil).HasFile(name) {
		t.Error("what is a preserved socket's file is not told from what is none")
	}
	old.tracker.HandOver(p)
	if errno := old.unlink(t, name); errno != 0 || !unixSocketExists(name) {
		t.Fatalf("the successor has yet to claim it: %v", errno)
	}
	p.Close()
	if unixSocketExists(name) {
		t.Error("the successor has failed, and the path is left")
	}
}
