package suite

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// shortDir is a directory whose name leaves room in the 108 bytes of a unix socket's path, for users of any kind.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	return dir
}

func unixPython(t *testing.T, name, addr string) service {
	t.Helper()
	return service{name: "python", command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/unix.py", name}, addr: addr, ask: askHTTP}
}

func unixNginx(t *testing.T) service {
	s := nginx(t)
	path := shortDir(t) + "/nginx.sock"
	config := s.command[2]
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, strings.Replace(string(text), "listen "+s.addr, "listen unix:"+path, 1))
	s.addr = path
	return s
}

func unixRedis(t *testing.T) service {
	s := redis(t)
	s.addr = shortDir(t) + "/redis.sock"
	s.command = append(s.command, "--port", "0", "--unixsocket", s.addr, "--unixsocketperm", "750")
	return s
}

// TestUnixTwentyRestarts: services that remove the socket's file when they start and when they end, under clients that connect to it
// all the time. Not one may find it missing.
func TestUnixTwentyRestarts(t *testing.T) {
	const restarts = 20
	services := map[string]func(t *testing.T) service{
		"nginx":    unixNginx,
		"redis":    unixRedis,
		"path":     func(t *testing.T) service { path := shortDir(t) + "/s"; return unixPython(t, path, path) },
		"relative": func(t *testing.T) service { dir := shortDir(t); return unixPython(t, dir+":s", dir+"/s") },
		"abstract": func(t *testing.T) service { name := "@" + shortDir(t); return unixPython(t, name, name) },
	}
	for name, make := range services {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				var flags []string
				if name == "path" { // who names a socket means well: it stays, because it is preserved
					flags = append(flags, "--unlink="+s.addr)
				}
				h := s.run(t, level, flags...)
				before, _ := os.Stat(s.addr)
				l := startLoad(t, s.addr, s.ask, clients)
				l.awaitNewPID(0)
				for i := range restarts {
					pids := l.pids()
					h.hup()
					h.await("restart finished", i+2)
					l.awaitNewPID(pids)
					h.await("generation ended", i+1)
				}
				l.check(name + " at " + level)
				for _, bad := range []string{"restart failed", "generation killed", "old generation not gated wholly"} {
					if n := h.count(bad); n > 0 {
						t.Errorf("%d times %q", n, bad)
					}
				}
				if before == nil {
					return // an abstract name
				}
				if after, err := os.Stat(s.addr); err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
					t.Errorf("the socket's file is another, or has another mode: %v", err)
				}
				// The last generation removes it, as it would without huptime.
				h.signal(syscall.SIGTERM)
				h.exit()
				if _, err := os.Stat(s.addr); err == nil {
					t.Error("the socket's file is left")
				}
			})
		})
	}
}

// In exec mode no generation serves for a while. The path is there all the same, and clients wait in the queue.
func TestUnixExecMode(t *testing.T) {
	const restarts = 20
	eachLevel(t, func(t *testing.T, level string) {
		path := shortDir(t) + "/s"
		s := unixPython(t, path, path)
		h := s.run(t, level, "--exec")
		l := startLoad(t, s.addr, s.ask, clients)
		l.awaitNewPID(0)
		for i := range restarts {
			pids := l.pids()
			h.hup()
			h.await("restart finished", i+2)
			l.awaitNewPID(pids)
		}
		l.check("exec mode at " + level)
		h.signal(syscall.SIGTERM)
		h.exit()
		if _, err := os.Stat(path); err == nil {
			t.Error("the socket's file is left")
		}
	})
}

// A new version that fails removes the socket's file on its way out, and the old one serves on.
func TestUnixFailedRestart(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		dir := shortDir(t)
		path := dir + "/s"
		s := unixPython(t, path, path)
		script := dir + "/service"
		install := func(after string) {
			os.WriteFile(script, []byte("#!/bin/sh\n"+after+"exec "+strings.Join(s.command, " ")+"\n"), 0o755)
		}
		install("")
		run := s
		run.command = []string{script}
		h := run.run(t, level)
		l := startLoad(t, path, s.ask, 2)
		l.awaitNewPID(0)
		install("rm -f " + path + "; mv " + path + " " + path + ".old; exit 3\n")
		h.hup()
		h.await("restart failed", 2)
		install("")
		before := l.pids()
		h.hup()
		h.await("restart finished", 3)
		l.awaitNewPID(before)
		h.await("generation ended", 1)
		l.check("failed restart")
	})
}

// TestUnlinkKeepsPIDFile: nginx removes its pid file when it ends, which is its successor's by then.
func TestUnlinkKeepsPIDFile(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		s := nginx(t)
		file := filepath.Join(filepath.Dir(s.command[2]), "nginx.pid")
		h := s.run(t, level, "--unlink="+file)
		for i := range 3 {
			h.hup()
			h.await("restart finished", i+2)
			h.await("generation ended", i+1)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("after restart %d: %v", i+1, err)
			}
			if want := h.await("generation started", i+2).PID; strings.TrimSpace(string(text)) != strconv.Itoa(want) {
				t.Errorf("the pid file says %q, want %d", text, want)
			}
		}
		h.signal(syscall.SIGTERM)
		h.exit()
		if _, err := os.Stat(file); err == nil {
			t.Error("the last generation left its pid file")
		}
	})
}
