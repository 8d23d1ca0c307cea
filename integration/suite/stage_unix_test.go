package suite

import (
	"os"
	"strings"
	"testing"
)

// unixGunicorn is gunicorn with two workers of a class at a path, and the least of applications.
func unixGunicorn(t *testing.T, class string) service {
	t.Helper()
	const app = `import os
def app(environ, start):
    body = b"pid=%d version=gunicorn\n" % os.getpid()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
`
	dir := shortDir(t)
	write(t, dir+"/app.py", app)
	s := service{name: "gunicorn", addr: dir + "/s", ask: askHTTP}
	s.command = []string{program(t, "/usr/bin/gunicorn", "gunicorn"), "--bind", "unix:" + s.addr, "--workers", "2",
		"--worker-class", class, "--chdir", dir, "--worker-tmp-dir", dir, "app:app"}
	return s
}

// TestFaultD1RemovesItsFile: gunicorn asks its socket for its name when it ends, and removes that file. Of a placeholder there is none any more.
func TestFaultD1RemovesItsFile(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		s := unixGunicorn(t, "gthread")
		h := s.run(t, level)
		s.mustAnswer(t)
		h.hup()
		if e := h.await("generation ended", 1); e.Status != "exited with status 0" {
			t.Errorf("it ended so: %s", e.Status)
		}
		s.mustAnswer(t)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, line := range h.output {
			if strings.Contains(line, "Traceback") {
				t.Errorf("the service has noticed: %s", line)
			}
		}
	})
}

// TestStageUnix: unix sockets are planted with --stage as well, so that a service, and whoever asks where it is
// connected to, sees the path that was asked for; also a service that asks its own path first.
func TestStageUnix(t *testing.T) {
	const restarts = 8
	for name, make := range map[string]func(t *testing.T) service{
		"nginx":       unixNginx,
		"redis":       unixRedis,
		"gthread":     func(t *testing.T) service { return unixGunicorn(t, "gthread") },
		"path":        func(t *testing.T) service { path := shortDir(t) + "/s"; return unixPython(t, path, path) },
		"asks before": func(t *testing.T) service { return anybody(t, shortDir(t)+"/s") },
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				h := s.run(t, level, "--stage")
				before, err := os.Stat(s.addr)
				if err != nil {
					t.Fatal(err)
				}
				h.restartsUnderLoad(s, restarts, name+" staged at "+level)
				if after, err := os.Stat(s.addr); err != nil || !os.SameFile(before, after) {
					t.Errorf("the socket's file is another: %v", err)
				}
			})
		})
	}
}
