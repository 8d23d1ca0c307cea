package fdpass

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Of what is sent only the one descriptor that was asked for is taken; all else is an error, and closed.
func FuzzReceiveDescriptor(f *testing.F) {
	f.Add(byte(1), []byte{0}, true)
	f.Add(byte(1), []byte("xy"), false)
	f.Add(byte(2), []byte{0}, true)
	f.Add(byte(3), []byte{}, true)
	f.Add(byte(0), []byte{}, true)
	f.Fuzz(func(t *testing.T, number byte, data []byte, right bool) {
		if len(data) > 4096 {
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[0])
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", pipe[1]))
		if err != nil {
			t.Fatal(err)
		}
		if !right {
			link = "socket:[1]"
		}
		var rights []byte
		passed := slices.Repeat(pipe[1:], int(number)%5)
		if len(passed) > 0 {
			rights = unix.UnixRights(passed...)
		}
		err = unix.Sendmsg(pair[1], data, rights, nil, 0)
		unix.Close(pipe[1]) // all that is left of it is on its way
		if err != nil {
			t.Fatal(err)
		}
		fd, err := Receive(pair[0], link)
		if (err == nil) != (len(passed) == 1 && right) || (err == nil) != (fd >= 0) {
			t.Fatalf("%d of %d, %v", fd, len(passed), err)
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		// What is not taken is closed by others, without being waited for.
		poll := []unix.PollFd{{Fd: int32(pipe[0])}}
		for {
			n, err := unix.Poll(poll, 10_000)
			if err == unix.EINTR {
				continue
			}
			if n != 1 || poll[0].Revents != unix.POLLHUP {
				t.Fatalf("%d of %d were left open: %d, %#x, %v", fd, len(passed), n, poll[0].Revents, err)
			}
			break
		}
	})
}
