package puppets

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// OpenSocket makes a socket; it is closed when the test is over.
func OpenSocket(t *testing.T, family, kind, protocol int) int {
	t.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT) {
		t.Skipf("unsupported here: family %d, protocol %d: %v", family, protocol, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// SocketInode is the inode number of a socket, as /proc/PID/fd shows it.
func SocketInode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// UnixNames are one name of each kind. The directory is short, because a path has 108 bytes.
func UnixNames(t *testing.T) map[string]string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return map[string]string{"path": dir + "/s", "abstract": "\x00" + dir + "\x00s"}
}

// DialUnix connects to a unix socket; "\x00" begins an abstract name. The connection is closed when the test is over.
func DialUnix(t *testing.T, network, name string) *net.UnixConn {
	t.Helper()
	if name[0] == 0 {
		name = "@" + name[1:]
	}
	c, err := net.DialTimeout(network, name, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UnixConn)
}

// RaiseDescriptorLimit lets this process open that many descriptors, or skips the benchmark.
func RaiseDescriptorLimit(b *testing.B, n uint64) {
	b.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
	if l.Cur >= n {
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: max(n, l.Max)}); err != nil {
		b.Skipf("cannot open %d descriptors: %v", n, err)
	}
}
