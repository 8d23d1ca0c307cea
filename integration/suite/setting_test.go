package suite

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// one tells whether text is one line of huptime's that contains all words.
func one(text string, words ...string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return strings.Count(text, "\n") == 1 && strings.HasPrefix(text, "huptime: ")
}

// saying puts a shell in front of the service, which prints something about its start and becomes the service.
func (s service) saying(script string) service {
	s.command = append([]string{"/bin/sh", "-c", script + ` >&2; exec "$0" "$@"`}, s.command...)
	return s
}

// failsToRestart sends a HUP under load and checks that the restart fails for that reason and nobody notices.
func failsToRestart(t *testing.T, h *supervisor, s service, generation int, reason ...string) event {
	t.Helper()
	old := s.mustAnswer(t)
	l := startLoad(t, s.addr, s.ask, 2)
	before := h.count("restart failed")
	h.hup()
	var failed event
	h.until("another failed restart", func() bool {
		n := 0
		for _, e := range h.events {
			if e.Msg == "restart failed" {
				n, failed = n+1, e
			}
		}
		return n > before
	})
	if failed.Generation != generation {
		t.Errorf("the start of generation %d failed, want %d", failed.Generation, generation)
	}
	for _, want := range reason {
		if !strings.Contains(failed.Reason, want) {
			t.Errorf("the reason is %q, want %q", failed.Reason, want)
		}
	}
	if r := s.mustAnswer(t); r.pid != old.pid {
		t.Errorf("%s answers after the failed restart, want %s", r.pid, old.pid)
	}
	l.awaitRequests(1)
	l.check("failed restart")
	return failed
}

// restarts sends a HUP under load and checks that generation takes over.
func restarts(t *testing.T, h *supervisor, s service, generation int) {
	t.Helper()
	l := startLoad(t, s.addr, s.ask, 2)
	h.hup()
	h.await("restart finished", generation)
	l.awaitRequests(1)
	l.check("restart")
}

func TestEnvFile(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t).saying(`echo "COLOR=$COLOR. SUITE=$SUITE. HOME=$HOME."`)
		file := write(t, filepath.Join(t.TempDir(), "env"), "# colors\nCOLOR='dark  green'\nSUITE=\"a $HOME\"\n")
		h := s.run(t, level, "--env-file="+file)
		h.awaitOutput("COLOR=dark  green. SUITE=a $HOME. HOME=" + os.Getenv("HOME") + ".")
		write(t, file, "COLOR=blue\nHOME=/nowhere\n")
		restarts(t, h, s, 2)
		h.awaitOutput("COLOR=blue. SUITE=. HOME=/nowhere.")
		write(t, file, "COLOR=red\nsecret\n")
		if e := failsToRestart(t, h, s, 3, file, "line 2", "KEY=VALUE"); strings.Contains(e.Reason, "secret") {
			t.Errorf("the reason quotes the file: %q", e.Reason)
		}
		os.Remove(file)
		failsToRestart(t, h, s, 4, file, "no such file")
		write(t, file, "COLOR=red\n")
		restarts(t, h, s, 5)
		h.awaitOutput("COLOR=red.")
	})
}

// TestEnvFilePath: the command is looked up in the PATH that the service gets.
func TestEnvFilePath(t *testing.T) {
	s := golang(t)
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		script := write(t, filepath.Join(dir, version, "the-service"), "#!/bin/sh\necho started "+version+" >&2; exec "+goserver+" \"$@\"\n")
		os.Chmod(script, 0o755)
	}
	file := write(t, filepath.Join(dir, "env"), "PATH="+dir+"/v1:/usr/bin:/bin\n")
	s.command[0] = "the-service"
	h := s.run(t, "listeners", "--env-file="+file)
	h.awaitOutput("started v1")
	write(t, file, "PATH="+dir+"/v2:/usr/bin:/bin\n")
	restarts(t, h, s, 2)
	h.awaitOutput("started v2")
	write(t, file, "PATH="+dir+"\n")
	failsToRestart(t, h, s, 3, "the-service", "not found")
}

// TestChdir: a deploy flips a link, and the next start runs what it leads to.
func TestChdir(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		dir := t.TempDir()
		for _, version := range []string{"v1", "v2"} {
			if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, version, "version"), version)
			if err := os.Symlink(goserver, filepath.Join(dir, version, "service")); err != nil {
				t.Fatal(err)
			}
		}
		current := filepath.Join(dir, "current")
		flip := func(to string) {
			t.Helper()
			if err := os.Symlink(to, current+".new"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(current+".new", current); err != nil {
				t.Fatal(err)
			}
		}
		flip("v1")
		s := golang(t)
		s.command = []string{"./service", "-addr", s.addr, "-version", "version"}
		h := s.run(t, level, "--chdir="+current)
		if r := s.mustAnswer(t); r.version != "v1" {
			t.Errorf("version %s answers", r.version)
		}
		flip("v2")
		restarts(t, h, s, 2)
		if r := s.mustAnswer(t); r.version != "v2" {
			t.Errorf("version %s answers", r.version)
		}
		flip("v3")
		failsToRestart(t, h, s, 3, current, "no such file or directory")
		flip("v1/service")
		failsToRestart(t, h, s, 4, current, "not a directory")
		flip("v1")
		restarts(t, h, s, 5)
		if r := s.mustAnswer(t); r.version != "v1" {
			t.Errorf("version %s answers", r.version)
		}
	})
}

// TestUnlink: a service that refuses to start over its own pid file.
func TestUnlink(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		dir := t.TempDir()
		pid, link, target := filepath.Join(dir, "pid"), filepath.Join(dir, "link"), filepath.Join(dir, "target")
		write(t, target, "stays")
		s := golang(t).saying(`set -C; echo $$ >` + pid + ` || exit 7; ln -s ` + target + ` ` + link + ` || exit 8; true`)
		h := s.run(t, level, "--unlink="+pid, "--unlink", link, "--unlink="+filepath.Join(dir, "none"))
		for i := range 3 {
			restarts(t, h, s, i+2)
			if b, err := os.ReadFile(pid); err != nil || strings.TrimSpace(string(b)) != s.mustAnswer(t).pid {
				t.Errorf("the pid file has %q, %v", b, err)
			}
			h.await("generation ended", i+1)
		}
		if b, err := os.ReadFile(target); err != nil || string(b) != "stays" {
			t.Errorf("the link was followed: %q, %v", b, err)
		}
		os.Remove(link)
		if err := os.Mkdir(link, 0o755); err != nil {
			t.Fatal(err)
		}
		failsToRestart(t, h, s, 5, link, "a directory")
		if _, err := os.Stat(pid); err != nil {
			t.Errorf("the other file is gone although nothing started: %v", err)
		}
	})
}

// TestBadSetting: what is wrong at the first start is huptime's failure, in one line.
func TestBadSetting(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "env"), "A=1\nB\n")
	mark := filepath.Join(dir, "started")
	for _, c := range []struct {
		flag string
		says []string
	}{
		{"--env-file=" + file, []string{file, "line 2"}},
		{"--env-file=" + dir, []string{dir, "no regular file"}},
		{"--env-file=/does/not/exist", []string{"/does/not/exist", "no such file"}},
		{"--chdir=/does/not/exist", []string{"/does/not/exist", "no such file"}},
		{"--chdir=" + file, []string{file, "not a directory"}},
		{"--unlink=" + dir, []string{dir, "a directory"}},
		{"--pid-file=" + dir, []string{dir, "no regular file"}},
		{"--pid-file=/does/not/exist", []string{"/does/not/exist", "no such file"}},
	} {
		status, stderr := runToEnd(t, exec.Command(huptime, c.flag, "touch", mark))
		if status != 125 || !one(stderr, c.says...) {
			t.Errorf("%s: exit status %d, %q", c.flag, status, stderr)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the service ran")
	}
}
