package suite

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// levels are the levels of --track that every scenario runs at.
var levels = []string{"listeners", "connections"}

// service is a command and how to talk to it.
type service struct {
	name    string
	command []string
	addr    string
	ask     func(c *client) (reply, error)
	version string // the file that holds it, if the service has one
	config  string // the file that says how the next start behaves, if the service has one
}

// program finds a program, or skips the test with that reason.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, strings.Join(names, " or ")+" is not installed: run make deps")
	return ""
}

// missing skips the test for lack of something, or fails it where everything should be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("HUPTIME_TEST_STRICT") != "" {
		t.Fatal(what)
	}
	t.Skip("unsupported here: " + what)
}

func python(t *testing.T, kind string) service {
	t.Helper()
	port := freePort(t)
	version := write(t, filepath.Join(t.TempDir(), "version"), "1")
	return service{
		name:    kind,
		command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/server.py", kind, strconv.Itoa(port), version},
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
		version: version,
	}
}

func golang(t *testing.T, more ...string) service {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	dir := t.TempDir()
	version := write(t, filepath.Join(dir, "version"), "1")
	config := filepath.Join(dir, "config")
	return service{
		name:    "go",
		command: append([]string{goserver, "-addr", addr, "-version", version, "-config", config}, more...),
		addr:    addr,
		ask:     askHTTP,
		version: version,
		config:  config,
	}
}

func node(t *testing.T) service {
	t.Helper()
	port := freePort(t)
	version := write(t, filepath.Join(t.TempDir(), "version"), "1")
	return service{
		name:    "node",
		command: []string{program(t, "node", "nodejs"), "testdata/server.js", strconv.Itoa(port), version},
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
		version: version,
	}
}

func nginx(t *testing.T) service {
	t.Helper()
	port := freePort(t)
	dir := t.TempDir()
	template, err := os.ReadFile("testdata/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Dir(dir), 0o755) // its workers are another user's
	conf := strings.NewReplacer("DIR", dir, "PORT", strconv.Itoa(port)).Replace(string(template))
	file := write(t, filepath.Join(dir, "nginx.conf"), conf)
	return service{
		name:    "nginx",
		command: []string{program(t, "nginx", "/usr/sbin/nginx"), "-c", file, "-e", filepath.Join(dir, "error.log")},
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
	}
}

func redis(t *testing.T) service {
	t.Helper()
	port := freePort(t)
	return service{
		name: "redis",
		command: []string{program(t, "redis-server"), "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
			"--save", "", "--appendonly", "no", "--dir", t.TempDir(), "--daemonize", "no"},
		addr: fmt.Sprintf("127.0.0.1:%d", port),
		ask:  askRedis,
	}
}

// once asks one question over a connection of its own.
func (s service) once() (reply, error) {
	c, err := dial(s.addr, s.name != "redis")
	if err != nil {
		return reply{}, err
	}
	defer c.conn.Close()
	return s.ask(c)
}

// mustAnswer asks once and fails the test where there is no answer.
func (s service) mustAnswer(t *testing.T) reply {
	t.Helper()
	r, err := s.once()
	if err != nil {
		t.Fatalf("%s does not answer: %v", s.name, err)
	}
	return r
}

// run starts the service under huptime and waits until it is ready.
func (s service) run(t *testing.T, level string, flags ...string) *supervisor {
	t.Helper()
	h := start(t, append(append(append([]string{"--track=" + level}, flags...), "--"), s.command...))
	h.await("generation ready", 1)
	return h
}

// alive tells whether the address accepts connections.
func alive(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// eachLevel runs a test at every level of --track.
func eachLevel(t *testing.T, test func(t *testing.T, level string)) {
	for _, level := range levels {
		t.Run(level, func(t *testing.T) { test(t, level) })
	}
}
