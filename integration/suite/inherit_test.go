package suite

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// handed starts huptime with these sockets open, as systemd does: LISTEN_PID is huptime's own PID, which a shell knows that becomes it.
func handed(names string, files ...*os.File) option {
	return func(cmd *exec.Cmd) {
		cmd.ExtraFiles = files
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+names)
	}
}

// opened is a socket that somebody else has opened and that stays open with the test. The service's address is its.
func opened(t *testing.T, s *service) *os.File {
	t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// TestListenFDs: a service that knows nothing of socket activation is given what systemd has opened at its bind, in every
// generation, and sees nothing of it in its environment or its descriptors.
func TestListenFDs(t *testing.T) {
	for _, kind := range []string{"go", "nginx", "thread"} {
		t.Run(kind, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := map[string]func(t *testing.T) service{
					"go": func(t *testing.T) service { return golang(t) }, "nginx": nginx,
					"thread": func(t *testing.T) service { return python(t, "thread") },
				}[kind](t)
				socket := opened(t, &s)
				h := start(t, append([]string{"--track=" + level}, s.command...), handed("web", socket))
				h.await("generation ready", 1)
				h.restartsUnderLoad(s, 5, kind+" at "+level, "nobody listens on an address any more; it is closed")
				pid := h.await("generation started", 6).PID
				if env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); strings.Contains(string(env), "LISTEN_") {
					t.Error("the service's environment has LISTEN_ variables")
				}
				if n := sameSockets(t, pid, socket); n != 1 {
					t.Errorf("the service has the socket at %d descriptors", n)
				}
			})
		})
	}
}

// sameSockets counts the descriptors of a process that are the socket.
func sameSockets(t *testing.T, pid int, socket *os.File) (n int) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(socket.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, _ := os.Readlink(link); to == fmt.Sprintf("socket:[%d]", st.Ino) {
			n++
		}
	}
	return n
}

// TestPassFDs: one that does know is handed all of them, with its own PID, in each generation. It neither binds nor listens.
func TestPassFDs(t *testing.T) {
	for name, flags := range map[string][]string{
		"fork": nil, "exec": {"--exec"}, "revive": {"--revive"}, "copies": {"--multi=3"},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := golang(t, "-activation")
				socket := opened(t, &s)
				h := start(t, append(append([]string{"--track=" + level, "--pass-fds"}, flags...), s.command...), handed("web", socket))
				h.await("generation ready", 1)
				h.restartsUnderLoad(s, 5, name+" at "+level)
				h.awaitOutput("environment LISTEN_FDS=1 ")
				h.awaitOutput("environment LISTEN_FDNAMES=web ")
				h.mu.Lock()
				defer h.mu.Unlock()
				for _, line := range h.output {
					var listen, pid int
					if n, _ := fmt.Sscanf(line, "environment LISTEN_PID=%d pid=%d", &listen, &pid); n == 2 && listen != pid {
						t.Errorf("%s", line)
					}
				}
			})
		})
	}
}

// TestPassFDsNotReady: that a new version has the sockets does not make it ready. One that fails while it loads is not noticed.
func TestPassFDsNotReady(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		s := golang(t, "-activation")
		socket := opened(t, &s)
		h := start(t, append([]string{"--track=" + level, "--pass-fds"}, s.command...), handed("web", socket))
		h.await("generation ready", 1)
		l := startLoad(t, s.addr, s.ask, 2)
		l.awaitNewPID(0)
		write(t, s.config, "delay=3s exit=3")
		h.hup()
		h.await("restart failed", 2)
		if h.count("generation ready") != 1 {
			t.Error("it counted as ready before it had loaded")
		}
		l.check("a failing start")
	})
}

// TestListen: huptime listens before the service does. Clients that come while it loads wait and are served; none is refused.
func TestListen(t *testing.T) {
	for _, kind := range []string{"tcp", "unix", "abstract", "tcp passed", "unix passed"} {
		t.Run(kind, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := golang(t)
				listen := "tcp://" + s.addr
				switch {
				case strings.HasPrefix(kind, "unix"):
					s.addr = shortDir(t) + "/s"
					listen = "unix://" + s.addr
				case kind == "abstract":
					s.addr = "@" + shortDir(t)
					s = unixPython(t, s.addr, s.addr)
					listen = "unix://" + s.addr
				}
				if kind != "abstract" {
					s.command = []string{goserver, "-addr", s.addr, "-config", s.config}
					write(t, s.config, "delay=1s")
				}
				flags := []string{"--track=" + level, "--listen=" + listen}
				if strings.HasSuffix(kind, "passed") {
					s.command = append(s.command, "-activation")
					flags = append(flags, "--pass-fds")
				}
				h := start(t, append(flags, s.command...))
				h.await("generation started", 1)
				l := startLoad(t, s.addr, s.ask, clients) // the service still loads
				h.await("generation ready", 1)
				l.awaitNewPID(0)
				for i := range 4 {
					before := l.pids()
					h.hup()
					h.await("restart finished", i+2)
					l.awaitNewPID(before)
					h.await("generation ended", i+1)
				}
				if st, err := os.Stat(s.addr); s.addr[0] == '/' && (err != nil || st.Mode().Perm() != 0o666) {
					t.Errorf("the socket's file: %v, %v", st, err)
				}
				l.check(kind + " at " + level)
				h.signal(syscall.SIGTERM)
				h.exit()
				if _, err := os.Lstat(s.addr); s.addr[0] == '/' && err == nil {
					t.Error("the socket's file is left")
				}
			})
		})
	}
}

// TestListenRevive: what huptime listens on survives any end of the service, the very first start included.
func TestListenRevive(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		s := golang(t)
		write(t, s.config, "exit=3")
		h := start(t, append([]string{"--track=" + level, "--revive", "--listen=tcp://" + s.addr}, s.command...))
		h.await("generation ended", 1)
		l := startLoad(t, s.addr, s.ask, 2)
		os.Remove(s.config)
		l.awaitNewPID(0)
		// An end in the middle of its life, twice: connections that it has accepted are lost with it, so only what waits is counted.
		l.end()
		for range 2 {
			g := h.newest("generation started")
			mustKill(t, g.PID, syscall.SIGKILL)
			h.await("generation ended", g.Generation)
			s.mustAnswer(t)
		}
	})
}

// newest is the last such event.
func (s *supervisor) newest(msg string) (last event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Msg == msg {
			last = e
		}
	}
	return last
}

// TestListenNeverClaimed: a service that listens elsewhere. huptime says so, clients of the address wait, and restarts go on.
func TestListenNeverClaimed(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		other := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		h := s.run(t, level, "--listen=tcp://"+other)
		h.await("nobody has claimed an address that huptime listens on; clients wait until somebody does", 1)
		waits, err := net.Dial("tcp", other)
		if err != nil {
			t.Fatal(err)
		}
		defer waits.Close()
		h.restartsUnderLoad(s, 3, "unclaimed at "+level)
		// A version that does bind it serves who has waited.
		write(t, s.config, "also="+other)
		h.hup()
		h.await("restart finished", 5)
		waits.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(waits, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
		buf := make([]byte, 12)
		if _, err := waits.Read(buf); err != nil || string(buf) != "HTTP/1.1 200" {
			t.Errorf("%q, %v", buf, err)
		}
	})
}

// TestListenDaemon: LISTEN_FDS reaches a huptime that goes into the background, which is another process.
func TestListenDaemon(t *testing.T) {
	t.Parallel()
	s := golang(t)
	socket := opened(t, &s)
	inBackground(t, s.command, handed("web", socket))
	s.mustAnswer(t)
}

// TestListenBadValues: one clear line and status 125, before the service starts.
func TestListenBadValues(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	plain := write(t, dir+"/file", "")
	serving, err := net.Listen("unix", dir+"/serving")
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ listen, says string }{
		{"127.0.0.1:80", "write tcp://"},
		{"http://127.0.0.1:80", "there is no http://"},
		{"tcp://localhost:80", "as numbers"},
		{"tcp://127.0.0.1:0", "write a port"},
		{"tcp://::1:80", "in brackets"},
		{"tcp://[fe80::1%nosuch]:80", "no network interface nosuch"},
		{"tcp6://127.0.0.1:80", "for IPv6"},
		{"unix://relative", "an absolute path"},
		{"unix:///" + strings.Repeat("x", 108), "at most 107 bytes"},
		{"unix://" + plain, "no socket"},
		{"unix://" + dir + "/serving", "another process listens"},
		{"unix://" + dir + "/missing/s", "no such file or directory"},
		{"tcp://" + taken.Addr().String(), "address already in use"},
		{"tcp://192.0.2.1:80", "cannot assign requested address"},
	} {
		out, err := exec.Command(huptime, "--listen="+c.listen, "true").CombinedOutput()
		exit, ok := err.(*exec.ExitError)
		if !ok || exit.ExitCode() != 125 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v, %q", c.listen, err, out)
		}
	}
	if _, err := os.Stat(plain); err != nil {
		t.Error("a file that is no socket was removed")
	}
	for _, env := range []string{"LISTEN_FDS=x", "LISTEN_FDS=-1", "LISTEN_FDS=2000"} {
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" true`, huptime)
		cmd.Env = append(os.Environ(), env)
		out, err := cmd.CombinedOutput()
		exit, ok := err.(*exec.ExitError)
		if !ok || exit.ExitCode() != 125 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "LISTEN_FDS") {
			t.Errorf("%s: %v, %q", env, err, out)
		}
	}
}
