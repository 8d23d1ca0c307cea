package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for an event; it is no measure of anything.
const patience = 30 * time.Second

// service is a command and how to talk to it.
type service struct {
	command []string
	addr    string
	ask     func(net.Conn, *bufio.Reader) (pid string, err error)
	words   []string // the same for testdata/load.c: what to ask, how the answer begins, how it ends
}

// http is a service that speaks it.
func http(port int, command ...string) service {
	return service{command, local(port), askHTTP, []string{"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "}}
}

// services are those of the issue: each at a port of its own, so that one can run beside the other.
var services = map[string]func(b *testing.B) service{
	"nginx": func(b *testing.B) service {
		port, dir := freePort(b), b.TempDir()
		os.Chmod(filepath.Dir(dir), 0o755)
		template, err := os.ReadFile("../suite/testdata/nginx.conf")
		if err != nil {
			b.Fatal(err)
		}
		conf := filepath.Join(dir, "nginx.conf")
		text := strings.NewReplacer("DIR", dir, "PORT", strconv.Itoa(port)).Replace(string(template))
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
		return http(port, program(b, "nginx", "/usr/sbin/nginx"), "-c", conf, "-e", filepath.Join(dir, "error.log"))
	},
	"redis": func(b *testing.B) service {
		port := freePort(b)
		return service{[]string{program(b, "redis-server"), "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", b.TempDir()},
			local(port), askRedis, []string{"PING\r\n", "+PONG\r\n", "\r\n"}}
	},
	"node": func(b *testing.B) service {
		port := freePort(b)
		return http(port, program(b, "node", "nodejs"), "../suite/testdata/server.js", strconv.Itoa(port), version(b))
	},
	"go": func(b *testing.B) service {
		port := freePort(b)
		return http(port, goserver, "-addr", local(port))
	},
	"python": func(b *testing.B) service {
		port := freePort(b)
		return http(port, program(b, "/usr/bin/python3", "python3"), "../suite/testdata/server.py", "thread", strconv.Itoa(port), version(b))
	},
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func version(b *testing.B) string {
	file := filepath.Join(b.TempDir(), "version")
	if err := os.WriteFile(file, []byte("1\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	return file
}

func program(b *testing.B, names ...string) string {
	b.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	b.Skip("unsupported here: " + strings.Join(names, " or ") + " is not installed: run make deps")
	return ""
}

func freePort(b *testing.B) int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// askHTTP makes one request on a connection of its own and reads the answer to its end.
func askHTTP(c net.Conn, r *bufio.Reader) (string, error) {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	_, body, ok := strings.Cut(string(answer), "pid=")
	pid, _, ok2 := strings.Cut(body, " ")
	if !ok || !ok2 || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		return "", fmt.Errorf("answer %q", answer)
	}
	return pid, nil
}

func askRedis(c net.Conn, r *bufio.Reader) (string, error) {
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return "", err
	}
	answer, err := r.ReadString('\n')
	if err != nil || answer != "+PONG\r\n" {
		return "", fmt.Errorf("answer %q, %v", answer, err)
	}
	return "redis", nil
}

// once makes one request and closes the connection.
func (s service) once() (pid string, err error) {
	c, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	return s.ask(c, bufio.NewReaderSize(c, 1024))
}

// awaitAnswer asks until somebody answers, and returns who.
func (s service) awaitAnswer(b *testing.B) string {
	b.Helper()
	for limit := time.Now().Add(patience); ; {
		pid, err := s.once()
		if err == nil {
			return pid
		}
		if time.Now().After(limit) {
			b.Fatalf("%s does not answer: %v", s.command[0], err)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// event is a line of huptime's log.
type event struct {
	Time        time.Time
	Msg         string
	Generation  int
	PID         int
	Connections int
}

// process is a running command, with or without huptime.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu      sync.Mutex
	changed chan struct{}
	events  []event
}

func run(b *testing.B, command []string, flags ...string) *process {
	b.Helper()
	if flags != nil {
		command = append(append([]string{huptime, "--log-format=json"}, flags...), command...)
	}
	p := &process{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{}), changed: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				p.mu.Lock()
				p.events = append(p.events, e)
				close(p.changed)
				p.changed = make(chan struct{})
				p.mu.Unlock()
			}
		}
		p.cmd.Wait()
		close(p.done)
	}()
	b.Cleanup(p.end)
	return p
}

// end stops the process; a second SIGTERM makes huptime kill.
func (p *process) end() {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		p.cmd.Process.Signal(sig)
		select {
		case <-p.done:
			return
		case <-time.After(5 * time.Second):
		}
	}
}

// await waits for a line of the log and returns it.
func (p *process) await(b *testing.B, msg string, generation int) event {
	b.Helper()
	e, err := p.line(msg, generation)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// line is await for other goroutines than the benchmark's own.
func (p *process) line(msg string, generation int) (event, error) {
	limit := time.After(patience)
	for {
		p.mu.Lock()
		changed := p.changed
		for _, e := range p.events {
			if e.Msg == msg && e.Generation == generation {
				p.mu.Unlock()
				return e, nil
			}
		}
		p.mu.Unlock()
		select {
		case <-changed:
		case <-limit:
			return event{}, fmt.Errorf("waited in vain for %q of generation %d", msg, generation)
		}
	}
}

func (p *process) hup() { p.cmd.Process.Signal(syscall.SIGHUP) }

// restart restarts the service and waits until that is over; the generation is the new one.
func (p *process) restart(b *testing.B, generation int) {
	b.Helper()
	p.await(b, "generation ready", generation-1)
	p.hup()
	p.await(b, "restart finished", generation)
}
