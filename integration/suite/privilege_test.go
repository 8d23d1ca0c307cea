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

	"golang.org/x/sys/unix"
)

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "a service that gives up privileges needs root")
	}
}

// privilegedPort finds a port that only the privileged may bind. The kernel gives none of these away by itself.
func privilegedPort(t *testing.T) int {
	t.Helper()
	for port := 1023; port > 600; port-- {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port below 1024 is free")
	return 0
}

func privilege(t *testing.T, addr string, args ...string) service {
	t.Helper()
	if _, err := strconv.Atoi(addr); err == nil {
		addr = "127.0.0.1:" + addr
	}
	return service{name: "python", command: append([]string{program(t, "/usr/bin/python3", "python3"), "testdata/privilege.py"}, args...), addr: addr, ask: askHTTP}
}

// TestFaultD7PrivilegedBind: a new version without the privilege to bind the address is refused, as the kernel would, and the old one serves on.
// One with the privilege is not; nor is one whose socket the operator has opened.
func TestFaultD7PrivilegedBind(t *testing.T) {
	needsRoot(t)
	for name, errno := range map[string]string{"port": "[Errno 13] Permission denied", "path": "[Errno 98] Address already in use"} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				addr := strconv.Itoa(privilegedPort(t))
				flag := filepath.Join(t.TempDir(), "drop")
				if name == "path" {
					addr = shortDir(t) + "/s"
				}
				s := privilege(t, addr, "bind", addr, flag)
				h := s.run(t, level)
				restarts(t, h, s, 2)
				write(t, flag, "")
				failsToRestart(t, h, s, 3, "exited with status 1", "the kernel forbids it to the caller", "permission denied")
				h.awaitOutput("uid 65534 bind: " + errno)
				if name == "path" {
					h.awaitOutput("unlink: [Errno 13] Permission denied")
				}
				os.Remove(flag)
				restarts(t, h, s, 4)
			})
		})
	}
	t.Run("opened by huptime", func(t *testing.T) {
		addr := strconv.Itoa(privilegedPort(t))
		flag := write(t, filepath.Join(t.TempDir(), "drop"), "")
		s := privilege(t, addr, "bind", addr, flag)
		h := s.run(t, "auto", "--listen=tcp://"+s.addr)
		restarts(t, h, s, 2)
		if r := s.mustAnswer(t); r.version != "65534" {
			t.Errorf("uid %s answers", r.version)
		}
	})
}

// TestFaultD7UnlinkForbidden: a worker that may not remove the socket's file is told so, and it is not removed for it later.
func TestFaultD7UnlinkForbidden(t *testing.T) {
	needsRoot(t)
	for name, mode := range map[string]os.FileMode{"directory": 0o755, "sticky": 0o777 | os.ModeSticky} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				port := freePort(t)
				dir := shortDir(t)
				if err := os.Chmod(dir, mode); err != nil {
					t.Fatal(err)
				}
				flag, path := filepath.Join(t.TempDir(), "drop"), dir+"/s"
				s := privilege(t, strconv.Itoa(port), "unlink", strconv.Itoa(port), path, flag)
				h := s.run(t, level, "--allow-address-change", "--kill-after=300ms") // the next one has no path; nobody tells the worker to end
				h.awaitOutput(map[string]string{"directory": "worker: [Errno 13]", "sticky": "worker: [Errno 1]"}[name])
				write(t, flag, "")
				restarts(t, h, s, 2)
				h.await("generation ended", 1)
				h.mu.Lock()
				defer h.mu.Unlock()
				for _, line := range h.output {
					if strings.Contains(line, "succeeded") {
						t.Errorf("the service said: %s", line)
					}
				}
				if _, err := os.Stat(path); err != nil {
					t.Errorf("the file was removed for somebody who may not: %v", err)
				}
			})
		})
	}
}

// TestFaultD7UnlinkFollows: the service, which is nobody, has its pid file in a directory of its own, and puts a link to another one in that
// directory's place. What is removed before the next start is not the other one's file.
func TestFaultD7UnlinkFollows(t *testing.T) {
	needsRoot(t)
	setpriv := program(t, "setpriv")
	base := shortDir(t)
	theirs, others := base+"/theirs", base+"/others"
	for _, dir := range []string{theirs, theirs + "/run", others} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{theirs, theirs + "/run"} {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	victim := write(t, others+"/x.pid", "not theirs")
	port := freePort(t)
	s := privilege(t, strconv.Itoa(port), "bind", strconv.Itoa(port), base+"/none")
	file := theirs + "/run/x.pid"
	write(t, file, "1")
	h := s.run(t, "auto", "--unlink="+file)
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was not removed before the first start")
	}
	write(t, file, "2")
	restarts(t, h, s, 2)
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was not removed before the second start")
	}
	write(t, file, "3")
	as := exec.Command(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "mv "+theirs+"/run "+theirs+"/was && ln -s "+others+" "+theirs+"/run")
	if out, err := as.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	restarts(t, h, s, 3)
	if _, err := os.Stat(victim); err != nil {
		t.Errorf("a file was removed that the service may not remove: %v", err)
	}
	if _, err := os.Stat(theirs + "/was/x.pid"); err == nil {
		t.Error("the file in the directory that was meant is left")
	}
	if h.count("the directory of --unlink is another one than before, and not only huptime's user could have changed it: the one from before is used") == 0 {
		t.Error("the log does not say so")
	}
}

// TestFaultD7FileCapabilities: what file capabilities would give a service is lost under a huptime without CAP_SYS_ADMIN. The log says so, and
// what to do: with ambient capabilities the service has what it needs, and restarts.
func TestFaultD7FileCapabilities(t *testing.T) {
	needsRoot(t)
	dir := shortDir(t)
	copied := func(from, to string) string {
		t.Helper()
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+to, b, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + to
	}
	service, script := copied(program(t, "/usr/bin/python3", "python3"), "python"), copied("testdata/privilege.py", "service.py")
	// struct vfs_cap_data of revision 2 with the effective flag, and CAP_NET_BIND_SERVICE (include/uapi/linux/capability.h).
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(service, "security.capability", capability, 0); err != nil {
		t.Skip("unsupported here: file capabilities: ", err)
	}
	copied(huptime, "huptime")
	port := strconv.Itoa(privilegedPort(t))
	s := privilege(t, port, "bind", port, dir+"/none")
	s.command = []string{service, script, "bind", port, dir + "/none"}
	const warning = "the service runs without the privileges of its file: huptime has no CAP_SYS_ADMIN"
	as := func(ambient ...uintptr) option {
		return func(c *exec.Cmd) {
			c.Path = dir + "/huptime"
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: ambient}
		}
	}
	h := start(t, s.command, as())
	h.await(warning, 0)
	h.awaitOutput("uid 65534 bind: [Errno 13] Permission denied")
	h.exit()
	h = start(t, s.command, as(unix.CAP_NET_BIND_SERVICE))
	h.await("generation ready", 1)
	restarts(t, h, s, 2)
	restarts(t, h, s, 3)
	if r := s.mustAnswer(t); r.version != "65534" {
		t.Errorf("uid %s answers", r.version)
	}
}
