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

	"golang.org/x/sys/unix"
)

// patience bounds every wait for an event; it is no measure of anything.
const patience = 30 * time.Second

// service is a command and how to talk to it.
type service struct {
	command []string
	addr    string
	ask     func(net.Conn, *bufio.Reader) (pid string, err error)
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
		return service{[]string{program(b, "nginx", "/usr/sbin/nginx"), "-c", conf, "-e", filepath.Join(dir, "error.log")}, local(port), askHTTP}
	},
	"redis": func(b *testing.B) service {
		port := freePort(b)
		return service{[]string{program(b, "redis-server"), "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", b.TempDir()},
			local(port), askRedis}
	},
	"node": func(b *testing.B) service {
		port := freePort(b)
		return service{[]string{program(b, "node", "nodejs"), "../suite/testdata/server.js", strconv.Itoa(port), version(b)}, local(port), askHTTP}
	},
	"go": func(b *testing.B) service {
		port := freePort(b)
		return service{[]string{goserver, "-addr", local(port)}, local(port), askHTTP}
	},
	"python": func(b *testing.B) service {
		port := freePort(b)
		return service{[]string{program(b, "/usr/bin/python3", "python3"), "../suite/testdata/server.py", "thread", strconv.Itoa(port), version(b)}, local(port), askHTTP}
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

// freePort keeps the port until the benchmark's end: a socket that is bound and does not listen keeps the kernel from giving it to somebody
// else; SO_REUSEADDR, set after its bind, lets a service listen there that sets it as well.
func freePort(b *testing.B) int {
	b.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		b.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		b.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		b.Fatal(err)
	}
	return addr.(*unix.SockaddrInet4).Port
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
	Time       time.Time
	Msg        string
	Generation int
	PID        int // of a leader that has started
	// Connections is what a generation had open when it was gated.
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
		command = append(append([]string{huptime, "--log-format=json", "--min-ready=20ms"}, flags...), command...)
	}
	p := &process{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{}), changed: make(chan struct{})}
	// huptime gives each generation a session of its own, and to the scheduler a session is a group that shares the CPUs
	// with the others (sched(7), "The autogroup feature"): what runs without huptime gets one as well.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
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
	e, err := p.find(msg, generation)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// find is await for goroutines that may not end the benchmark.
func (p *process) find(msg string, generation int) (event, error) {
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
