package permission

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// caller is the role of a process that makes the calls it is told to make, and prints what the kernel says.
const caller = "PERMISSION_TEST_CALLER"

func TestMain(m *testing.M) {
	if os.Getenv(caller) == "" {
		os.Exit(m.Run())
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		what, arg, _ := strings.Cut(lines.Text(), " ")
		var err error
		switch what {
		case "ready":
		case "search":
			if err = unix.Faccessat2(unix.AT_FDCWD, arg+"/nothing", unix.F_OK, unix.AT_EACCESS); err == unix.ENOENT {
				err = nil
			}
		case "remove":
			err = unix.Unlink(arg)
		case "create":
			var fd int
			if fd, err = unix.Open(arg, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600); err == nil {
				unix.Close(fd)
			}
		case "bind":
			port, _ := strconv.Atoi(arg)
			fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}); err == unix.EADDRINUSE {
				err = nil
			}
			unix.Close(fd)
		}
		errno, _ := err.(unix.Errno)
		fmt.Println(int(errno))
	}
	os.Exit(0)
}

// process is a caller with credentials of its own.
type process struct {
	*exec.Cmd
	ask func(string) error
}

func start(t *testing.T, attr *syscall.SysProcAttr) process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), caller+"=1")
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("unsupported here: ", err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	answers := bufio.NewScanner(out)
	p := process{cmd, func(what string) error {
		fmt.Fprintln(in, what)
		if !answers.Scan() {
			t.Fatalf("no answer to %s", what)
		}
		errno, _ := strconv.Atoi(answers.Text())
		if errno == 0 {
			return nil
		}
		return unix.Errno(errno)
	}}
	p.ask("ready") // it has its credentials, and is itself
	return p
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("unsupported here: other users' processes need root")
	}
}

// setList gives a directory an access list: for two users, two groups, and the mask.
func setList(t *testing.T, dir string, random *rand.Rand) {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []entry{{0x01, 7, ^uint32(0)}, {tagUser, 0, 1001}, {tagUser, 0, 1002}, {tagGroupObj, 0, ^uint32(0)}, {tagGroup, 0, 2001}, {tagGroup, 0, 2002}, {tagMask, 0, ^uint32(0)}, {tagOther, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(random.IntN(8)))
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	if err := unix.Setxattr(dir, "system.posix_acl_access", b, 0); err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
}

// What is told here is what the kernel says, for users, groups, modes, sticky directories, access lists and capabilities made up at random.
func TestDirectoryAgainstKernel(t *testing.T) {
	needsRoot(t)
	const rounds = 400
	base := t.TempDir()
	for dir := base; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	ids := func(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	}
	able := func(capability uintptr) *syscall.SysProcAttr {
		a := ids(1001, 2001)
		a.AmbientCaps = []uintptr{capability}
		return a
	}
	inside := ids(0, 0) // root of a user namespace, which knows a few of the ids
	inside.Cloneflags = syscall.CLONE_NEWUSER
	inside.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1001, Size: 1}, {ContainerID: 1, HostID: 1002, Size: 1}}
	inside.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 2001, Size: 1}}
	inside.GidMappingsEnableSetgroups = true
	for name, attr := range map[string]*syscall.SysProcAttr{
		"root": ids(0, 0), "a user": ids(1001, 2001), "with groups": ids(1002, 2009, 2001, 2002), "CAP_DAC_OVERRIDE": able(unix.CAP_DAC_OVERRIDE),
		"CAP_DAC_READ_SEARCH": able(unix.CAP_DAC_READ_SEARCH), "CAP_FOWNER": able(unix.CAP_FOWNER), "user namespace": inside,
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, attr)
			c, err := Of(p.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			uids, gids := []int{0, 1001, 1002, 1003}, []int{0, 2001, 2002, 2003}
			answers := map[error]int{}
			for i := range rounds {
				dir := filepath.Join(base, name+strconv.Itoa(i))
				file := filepath.Join(dir, "x")
				if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.Chown(dir, uids[random.IntN(4)], gids[random.IntN(4)]), os.Chown(file, uids[random.IntN(4)], 0)); err != nil {
					t.Fatal(err)
				}
				if err := unix.Chmod(dir, uint32(random.IntN(0o1000)|random.IntN(2)<<9)); err != nil {
					t.Fatal(err)
				}
				if random.IntN(3) == 0 {
					setList(t, dir, random)
				}
				fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				search, create, remove := c.Search(fd), c.Create(fd), c.Remove(fd, "x")
				for _, test := range []struct {
					what string
					got  error
				}{{"search " + dir, search}, {"create " + dir + "/y", create}, {"remove " + file, remove}} {
					want := p.ask(test.what)
					if unix.Errno(0) == want {
						want = nil
					}
					if answers[want]++; !errors.Is(test.got, want) {
						st, _ := os.Stat(dir)
						t.Errorf("%s (%v): %v, the kernel says %v", test.what, st.Mode(), test.got, want)
					}
				}
				unix.Close(fd)
				os.RemoveAll(dir)
				if t.Failed() {
					return
				}
			}
			t.Log(answers)
		})
	}
}

func TestPortAgainstKernel(t *testing.T) {
	needsRoot(t)
	ambient := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1001, Gid: 2001}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE}}
	other := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}}}
	for name, attr := range map[string]*syscall.SysProcAttr{
		"root": nil, "a user": {Credential: &syscall.Credential{Uid: 1001, Gid: 2001}}, "CAP_NET_BIND_SERVICE": ambient, "user namespace": other,
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, attr)
			c, err := Of(p.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			for _, port := range []uint16{1, 81, 1022, 1023, 1024, 40000} {
				if got, want := c.Port(port), p.ask(fmt.Sprintf("bind %d", port)); !errors.Is(got, want) {
					t.Errorf("port %d: %v, the kernel says %v", port, got, want)
				}
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseStatus(status)
	if err != nil || int(c.UID) != os.Geteuid() || int(c.GID) != os.Getegid() {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"", "Uid:\t1\t2\t3\n", "Uid:\t0\t0\t0\t-1\nGid:\t0\t0\t0\t0\nGroups:\t\nCapEff:\t0\n", "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\nCapEff:\tx\n"} {
		if c, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, c)
		}
	}
}
