package suite

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// denied runs huptime where a system call is denied; nothing is where it has no name.
func denied(call string, errno syscall.Errno) option {
	return func(cmd *exec.Cmd) {
		if call == "" {
			return
		}
		cmd.Env = append(cmd.Env, fmt.Sprintf("SUITE_DENY=%s %d", call, int(errno)))
		cmd.Args = append([]string{"suite", huptime}, cmd.Args[1:]...)
		cmd.Path = "/proc/self/exe"
	}
}

// incapable runs huptime without a capability. It takes root.
func incapable(t *testing.T, capability int) option {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("unsupported here: only root has capabilities to lose, and users to become")
	}
	return denied("capability", syscall.Errno(capability))
}

// denyAndExec makes a system call fail, by a seccomp filter without a listener, and becomes the program: what a container's profile does.
// how is NAME ERRNO; "capability N" takes a capability away instead.
func denyAndExec(how string, command []string) {
	runtime.LockOSThread()
	os.Unsetenv("SUITE_DENY")
	numbers := map[string]uint32{"seccomp": unix.SYS_SECCOMP, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "ptrace": unix.SYS_PTRACE}
	var name string
	var errno uint32
	fmt.Sscanf(how, "%s %d", &name, &errno)
	if name == "capability" {
		// A program that root executes gets all that is in the bounding set (capabilities(7)).
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(errno), 0, 0, 0)
		if err == nil {
			err = syscall.Exec(command[0], command, os.Environ())
		}
		fmt.Fprintln(os.Stderr, "cannot take away", how, err)
		os.Exit(99)
	}
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	filter := []unix.SockFilter{
		stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0), // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: numbers[name]},
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|errno),
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW),
	}
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, "cannot deny", how, err)
		os.Exit(99)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fail(err)
	}
	if err := setFilter(filter); err != nil {
		fail(err)
	}
	fail(syscall.Exec(command[0], command, os.Environ()))
}
