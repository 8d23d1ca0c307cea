package proc

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketProtocol(t *testing.T) {
	for _, c := range []struct {
		family, kind, protocol int
		want                   string
	}{
		{unix.AF_INET, unix.SOCK_STREAM, 0, "TCP"},
		{unix.AF_INET6, unix.SOCK_STREAM, 0, "TCPv6"},
		{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, "MPTCP"},
		{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, "MPTCPv6"},
		{unix.AF_INET, unix.SOCK_DGRAM, 0, "UDP"},
		{unix.AF_INET6, unix.SOCK_DGRAM, 0, "UDPv6"},
	} {
		fd, err := unix.Socket(c.family, c.kind|unix.SOCK_CLOEXEC, c.protocol)
		if err != nil {
			t.Logf("unsupported here: %s: %v", c.want, err)
			continue
		}
		if got, err := SocketProtocol(os.Getpid(), fd); err != nil || got != c.want {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
		unix.Close(fd)
		if _, err := SocketProtocol(os.Getpid(), fd); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a closed one: %v", err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if got, err := SocketProtocol(os.Getpid(), int(r.Fd())); err == nil {
		t.Errorf("a pipe speaks %q", got)
	}
}
