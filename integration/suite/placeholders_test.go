package suite

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// listeningSockets lists the addresses at which sockets listen that a process has open: ports of TCP, and names of unix
// sockets as /proc/net/unix shows them.
func listeningSockets(t *testing.T, pid int) []string {
	t.Helper()
	own := make(map[string]bool)
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.Trim(to, "socket:[]")] = true
		}
	}
	var list []string
	for _, table := range []string{"tcp", "tcp6", "unix"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(line)
			switch {
			case table == "unix" && len(f) > 7 && f[3] == "00010000" && own[f[6]]:
				list = append(list, f[7])
			case table != "unix" && len(f) > 9 && f[3] == "0A" && own[f[9]]:
				_, port, _ := strings.Cut(f[1], ":")
				n, err := strconv.ParseUint(port, 16, 16)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, strconv.FormatUint(n, 10))
			}
		}
	}
	return list
}

// intrude tries to get an answer at the addresses, as nobody where that can be tried, and returns what answers.
func intrude(t *testing.T, addresses []string) (answered []string) {
	t.Helper()
	who := []*syscall.Credential{nil}
	if os.Getuid() == 0 {
		who = append(who, &syscall.Credential{Uid: 65534, Gid: 65534})
	}
	script, err := os.ReadFile("testdata/intrude.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, as := range who {
		cmd := exec.Command(program(t, "/usr/bin/python3", "python3"), append([]string{"-"}, addresses...)...)
		cmd.Stdin = strings.NewReader(string(script))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		out, err := cmd.Output()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil || lines[len(lines)-1] != "done" {
			t.Fatalf("%q, %v", out, err)
		}
		answered = append(answered, lines[:len(lines)-1]...)
	}
	return answered
}

// drainingWith starts the service, makes generation 1 drain with one connection open, and returns its leader's PID.
func drainingWith(t *testing.T, level string, s service, options ...option) (pid int, h *supervisor, held *client) {
	t.Helper()
	h = start(t, append([]string{"--track=" + level, "--"}, s.command...), options...)
	h.await("generation ready", 1)
	held, err := dial(s.addr, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.conn.Close() })
	r, err := s.ask(held)
	if err != nil {
		t.Fatal(err)
	}
	h.hup()
	h.await("generation gated", 1)
	if pid, err = strconv.Atoi(r.pid); err != nil {
		t.Fatal(err)
	}
	return pid, h, held
}

// TestFaultD1Placeholders: what a draining generation listens on can be reached by nobody; above all not by those whom the
// permissions of the unix socket that it stands for keep out.
func TestFaultD1Placeholders(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) service{
		"path":     func(t *testing.T) service { path := shortDir(t) + "/s"; return unixPython(t, path, path) },
		"abstract": func(t *testing.T) service { name := "@" + shortDir(t); return unixPython(t, name, name) },
		"TCP":      func(t *testing.T) service { return python(t, "thread") },
		"Go":       func(t *testing.T) service { return golang(t) },
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				pid, h, held := drainingWith(t, level, s)
				own := s.addr
				if _, port, err := net.SplitHostPort(s.addr); err == nil {
					own = port
				}
				if level == "connections" && name != "Go" {
					h.await("listening socket swapped for a placeholder", 1) // when it accepts the next time, if it did not when it was gated
				}
				placeholders := listeningSockets(t, pid)
				if level == "connections" && name == "Go" {
					// It waits in epoll, where its entry is silenced: it gets a placeholder when it accepts.
					placeholders = slices.DeleteFunc(placeholders, func(d string) bool { return d == own })
				} else if len(placeholders) == 0 || slices.Contains(placeholders, own) {
					t.Fatalf("the old generation has no placeholder for %s: %q", own, placeholders)
				}
				for _, d := range placeholders {
					if strings.HasPrefix(d, "@") {
						t.Errorf("a placeholder is in the abstract namespace: %s", d)
					}
				}
				if answered := intrude(t, placeholders); len(answered) > 0 {
					t.Errorf("%d placeholders at %q, of which %q", len(placeholders), placeholders, answered)
				}
				if _, err := s.ask(held); err != nil {
					t.Errorf("the connection that it drains: %v", err)
				}
				held.conn.Close()
				h.await("generation ended", 1)
				l := startLoad(t, s.addr, s.ask, 1)
				for i := range 2 {
					h.hup()
					h.await("generation ended", i+2)
				}
				l.check("restarts")
			})
		})
	}
}

// TestFaultD1ReadOnly: where no directory can be written to, the placeholder of a unix socket is a TCP socket, as closed as
// any; restarts lose nobody.
func TestFaultD1ReadOnly(t *testing.T) {
	unshare := program(t, "unshare")
	if exec.Command(unshare, "--mount", "--map-root-user", "true").Run() != nil {
		t.Skip("unsupported here: a mount namespace for tests")
	}
	eachLevel(t, func(t *testing.T, level string) {
		name := "@" + shortDir(t)
		s := unixPython(t, name, name)
		// /tmp has the test's own binaries: it can't be covered, so it is made read-only as it is.
		const script = `for d in /dev/shm /run /var/tmp; do mount -t tmpfs -o ro none $d || exit 99; done
			mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp || exit 99
			exec "$0" "$@"`
		pid, h, held := drainingWith(t, level, s, func(cmd *exec.Cmd) {
			as := []string{unshare, "--mount", "--map-root-user", "--", "/bin/sh", "-c", script, huptime}
			cmd.Args = append(as, cmd.Args[1:]...)
			cmd.Path = unshare
			cmd.Env = append(cmd.Env, "TMPDIR=/tmp")
		})
		if level == "connections" {
			h.await("listening socket swapped for a placeholder", 1)
		}
		placeholders := listeningSockets(t, pid)
		if len(placeholders) != 1 {
			t.Fatalf("placeholders: %q", placeholders)
		}
		if _, err := strconv.Atoi(placeholders[0]); err != nil {
			t.Errorf("the placeholder is no TCP socket: %q", placeholders)
		}
		if answered := intrude(t, placeholders); len(answered) > 0 {
			t.Errorf("%q", answered)
		}
		l := startLoad(t, s.addr, s.ask, 1)
		held.conn.Close()
		h.await("generation ended", 1)
		for i := range 3 {
			h.hup()
			h.await("generation ended", i+2)
		}
		l.check("restarts")
	})
}
