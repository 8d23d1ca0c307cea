package suite

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// script is a Python service of testdata that answers HTTP on 127.0.0.1:port.
func script(t *testing.T, file string, port int, args ...string) service {
	t.Helper()
	return service{
		name:    file,
		command: append([]string{program(t, "/usr/bin/python3", "python3"), "testdata/" + file, strconv.Itoa(port)}, args...),
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
	}
}

// askOK asks for an answer of two bytes.
func askOK(c *client) (reply, error) {
	if _, err := fmt.Fprint(c.conn, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		return reply{}, err
	}
	status, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return reply{}, fmt.Errorf("status line %q, %w", status, err)
	}
	return reply{pid: "?"}, nil
}

// TestAddressLate: a metrics port that is there at once does not make a version ready whose main port comes late, or never.
func TestAddressLate(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		flag := filepath.Join(t.TempDir(), "fails")
		s := script(t, "metrics_first.py", freePort(t), strconv.Itoa(freePort(t)), "1.5", flag)
		s.ask = askOK
		h := s.run(t, level, "--ready-timeout=20s")
		for deadline := time.Now().Add(patience); !alive(s.addr); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the main port never came")
			}
		}
		time.Sleep(1500 * time.Millisecond) // it counts as the service's from then on
		l := startClients(t, s.addr, s.ask, 1, 1, 1)
		h.hup()
		h.await("restart finished", 2)
		write(t, flag, "")
		h.hup()
		if e := h.await("restart failed", 3); !strings.Contains(e.Reason, "which its predecessor serves") {
			t.Errorf("the reason is %q", e.Reason)
		}
		l.check("a main port that comes late, or never")
	})
}

// TestAddressNever: an address that the new version leaves out makes the restart fail, and names it; who means it says so.
func TestAddressNever(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := golang(t)
		also := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		write(t, s.config, "also="+also)
		h := s.run(t, level, "--ready-timeout=1s")
		l := startClients(t, s.addr, s.ask, 1, perConnection)
		os.Remove(s.config)
		h.hup()
		if e := h.await("restart failed", 2); !strings.Contains(e.Reason, "it has not bound tcp://"+also) {
			t.Errorf("the reason is %q", e.Reason)
		}
		if !alive(also) {
			t.Error("the address is gone")
		}
		l.check("an address that is left out")
	})
	t.Run("allowed", func(t *testing.T) {
		s := golang(t)
		also := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		write(t, s.config, "also="+also)
		h := s.run(t, "listeners", "--allow-address-change")
		os.Remove(s.config)
		h.hup()
		h.await("restart finished", 2)
		h.await("generation ended", 1)
		h.await("nobody listens on an address any more; it is closed", 0)
	})
}

// TestFaultA2AcceptConn: a socket that listens already when it is claimed is ready when somebody waits there.
func TestFaultA2AcceptConn(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := script(t, "acceptconn.py", freePort(t))
		h := s.run(t, level)
		l := startClients(t, s.addr, s.ask, 1, 1)
		for i := range 3 {
			h.hup()
			h.await("restart finished", i+2)
		}
		l.check("a server that asks SO_ACCEPTCONN")
	})
}

// TestFaultA4PortHunter: a version that tries its port and then listens there is as good as any; one that listens elsewhere is not.
func TestFaultA4PortHunter(t *testing.T) {
	for _, mode := range []string{"--fork", "--exec"} {
		eachLevel(t, func(t *testing.T, level string) {
			t.Run(mode, func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "how")
				s := script(t, "hunter.py", freePort(t), file)
				h := s.run(t, level, mode, "--ready-timeout=2s")
				old := s.mustAnswer(t)
				l := startClients(t, s.addr, s.ask, 1, 1)
				write(t, file, "trial")
				h.hup()
				h.await("restart finished", 2)
				write(t, file, "next")
				h.hup()
				if mode == "--exec" {
					h.await("service is started again; clients wait meanwhile", 0)
					os.Remove(file)
					h.await("restart finished", 0)
				} else {
					if e := h.await("restart failed", 3); !strings.Contains(e.Reason, s.addr) {
						t.Errorf("the reason is %q", e.Reason)
					}
					os.Remove(file)
				}
				if r := s.mustAnswer(t); r.pid == old.pid {
					t.Error("generation 1 answers")
				}
				l.check("a service that hunts for a port")
			})
		})
	}
}

// TestFaultA6Sessions: what sessions listen on is theirs: nobody waits for it, and no session gets another's.
func TestFaultA6Sessions(t *testing.T) {
	for file, ask := range map[string]func(conn net.Conn, r *bufio.Reader) error{
		"session_listeners.py": func(conn net.Conn, r *bufio.Reader) error {
			var port int
			if _, err := fmt.Fscanf(r, "%d\n", &port); err != nil {
				return err
			}
			if err := says(port, "data"); err != nil {
				return err
			}
			return reads(r, "done\n")
		},
		"session_explicit_port.py": func(conn net.Conn, r *bufio.Reader) error {
			for range 2 {
				if _, err := fmt.Fprint(conn, "PASV"); err != nil {
					return err
				}
				var pid, port int
				if _, err := fmt.Fscanf(r, "%d %d\n", &pid, &port); err != nil {
					return err
				}
				if err := says(port, strconv.Itoa(pid)); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(file, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := script(t, file, freePort(t), strconv.Itoa(20000+freePort(t)%9000))
				h := s.run(t, level, "--ready-timeout=5s")
				var sessions sync.WaitGroup
				stop := make(chan struct{})
				var mu sync.Mutex
				served, failures := 0, []error(nil)
				for range 3 {
					sessions.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
							}
							err := session(s.addr, ask)
							mu.Lock()
							served++
							if err != nil {
								failures = append(failures, err)
							}
							mu.Unlock()
						}
					})
				}
				for i := range 5 {
					h.hup()
					h.await("restart finished", i+2)
				}
				close(stop)
				sessions.Wait()
				t.Logf("%d failed of %d sessions", len(failures), served)
				if len(failures) > 0 {
					t.Errorf("%d failed of %d sessions, the first: %v", len(failures), served, failures[0])
				}
			})
		})
	}
}

func session(addr string, ask func(conn net.Conn, r *bufio.Reader) error) error {
	conn, err := net.DialTimeout("tcp", addr, requestLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestLimit))
	return ask(conn, bufio.NewReader(conn))
}

// says connects to a session's port and reads what it says to its end.
func says(port int, want string) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), requestLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestLimit))
	return reads(bufio.NewReader(conn), want)
}

func reads(r *bufio.Reader, want string) error {
	got := make([]byte, len(want))
	for n := 0; n < len(want); {
		m, err := r.Read(got[n:])
		if n += m; err != nil && n < len(want) {
			return fmt.Errorf("read %q, want %q: %w", got[:n], want, err)
		}
	}
	if string(got) != want {
		return fmt.Errorf("another session's: read %q, want %q", got, want)
	}
	return nil
}
