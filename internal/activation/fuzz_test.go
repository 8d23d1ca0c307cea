package activation

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is taken is as many descriptors as were announced, all of them open, each with a name and in order, and nobody
// else is told of them; or else nothing is, the environment is as it was, and one line says why.
func FuzzTake(f *testing.F) {
	f.Add("1", "http", true)
	f.Add("2", "http:https:more", true)
	f.Add("2", ":", true)
	f.Add("0", "", true)
	f.Add("3", "", false)
	f.Add("-1", "\n\xff", true)
	f.Add("2000000000", "a", true)
	f.Add("9223372036854775807", "", true) // 3 more is a negative number
	f.Fuzz(func(t *testing.T, count, given string, mine bool) {
		if strings.IndexByte(count+given, 0) >= 0 {
			return // no environment can hold it
		}
		pid := os.Getpid()
		if !mine {
			pid++
		}
		t.Setenv(listenPID, strconv.Itoa(pid))
		t.Setenv(listenFDs, count)
		t.Setenv(listenNames, given)
		t.Setenv(listenPIDFD, "7")
		before := os.Environ()
		fds, names, err := Take()
		announced, errCount := strconv.Atoi(count)
		took := err == nil && mine
		want := mine && errCount == nil && announced >= 0 && len(fds) == announced
		if took != want || !took && (fds != nil || names != nil) {
			t.Fatalf("%q: %v, %q, %v", count, fds, names, err)
		}
		if !took {
			if now := os.Environ(); !slices.Equal(now, before) {
				t.Fatalf("%q: the environment was %q and is %q", count, before, now)
			}
			if mine != (err != nil) {
				t.Fatalf("%q: %v", count, err)
			}
			if mine && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), listenFDs)) {
				t.Fatalf("%q: %q", count, err)
			}
			return
		}
		asked := strings.Split(given, ":")
		for i, fd := range fds {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if fd != firstPassed+i || err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Fatalf("%d is %d of %v, flags %#x, %v", fd, i, fds, flags, err)
			}
			want := unnamed
			if given != "" && i < len(asked) {
				want = asked[i]
			}
			if names[i] != want {
				t.Fatalf("%q of %q is called %q", names, given, want)
			}
		}
		if len(names) != len(fds) {
			t.Fatalf("%d names of %d descriptors", len(names), len(fds))
		}
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "LISTEN_") {
				t.Fatalf("%s is still there", v)
			}
		}
	})
}
