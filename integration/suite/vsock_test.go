package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestVsock: a service that listens on AF_VSOCK too has the same socket in every generation. There are no clients of it: few kernels have a loopback for
// these sockets.
func TestVsock(t *testing.T) {
	const restarts = 5
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY})
		unix.Close(fd)
	}
	if err != nil {
		t.Skip("unsupported here: AF_VSOCK:", err)
	}
	eachLevel(t, func(t *testing.T, level string) {
		s := order(t, "vsock")
		h := s.run(t, level)
		before := sockets(t, h.await("generation started", 1).PID)
		h.restartsUnderLoad(s, restarts, "vsock at "+level, "nobody listens on an address any more; it is closed")
		after := sockets(t, h.await("generation started", restarts+1).PID)
		if len(before) != 2 {
			t.Errorf("the service listens on %v", before)
		}
		for inode := range before {
			if !after[inode] {
				t.Errorf("%s is gone: %v became %v", inode, before, after)
			}
		}
	})
}

// sockets are the listening sockets of a process that nobody is connected to by; those of connections may be among them.
func sockets(t *testing.T, pid int) map[string]bool {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	inodes := make(map[string]bool)
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && len(to) > 7 && to[:7] == "socket:" {
			inodes[to] = true
		}
	}
	return inodes
}
