package notify

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	good := rawSizes{Notif: 80, Resp: 24, Data: 64}
	for _, test := range []struct {
		name    string
		release string
		action  unix.Errno
		sizes   rawSizes
		errno   unix.Errno
		message string // what is missing, or to be done; none where all is well
	}{
		{"all there", "6.18.44-cloud", 0, good, 0, ""},
		{"the oldest", "5.9.0", 0, good, 0, ""},
		{"an unreadable release", "generic", 0, good, 0, ""},
		{"smaller structures", "5.10.0", 0, rawSizes{Notif: 72, Resp: 16, Data: 64}, 0, ""},
		{"denied by a container", "6.1.0", unix.EPERM, good, 0, "let the container's seccomp profile allow seccomp"},
		{"denied in other words", "6.1.0", unix.EACCES, good, 0, "let the container's seccomp profile allow seccomp"},
		{"no notification", "4.19.0", unix.EOPNOTSUPP, good, 0, "Linux 5.9 or later"},
		{"no seccomp", "3.10.0", unix.ENOSYS, good, 0, "Linux 5.9 or later"},
		{"gVisor", "4.4.0", unix.EINVAL, good, 0, "gVisor"},
		{"a surprise", "6.1.0", unix.EIO, good, 0, "EIO"},
		{"no ADDFD", "5.8.18", 0, good, 0, "Linux 5.9 or later"},
		{"an older major", "4.20.1", 0, good, 0, "Linux 5.9 or later"},
		{"no sizes", "5.10.0", 0, rawSizes{}, unix.EINVAL, "newer huptime"},
		{"a longer notification", "9.1.0", 0, rawSizes{Notif: 88, Resp: 24, Data: 64}, 0, "newer huptime"},
		{"a longer reply", "9.1.0", 0, rawSizes{Notif: 80, Resp: 32, Data: 64}, 0, "newer huptime"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := probe(kernel{
				release: func() string { return test.release },
				action: func(action uint32) unix.Errno {
					if action != unix.SECCOMP_RET_USER_NOTIF {
						t.Errorf("asked for action %#x", action)
					}
					return test.action
				},
				sizes: func() (rawSizes, unix.Errno) { return test.sizes, test.errno },
			})
			if test.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrUnsupported) || errors.Is(err, unix.EPERM) {
				t.Fatalf("%v", err)
			}
			if text := err.Error(); !strings.Contains(text, test.message) || strings.Contains(text, "\n") || len(text) > 250 {
				t.Errorf("%q does not say %q in one line", text, test.message)
			}
		})
	}
}

// What the probe believes must be so: here a launch works exactly if it says so.
func TestProbeIsRight(t *testing.T) {
	t.Parallel()
	s := launchService(t, letRun, nil, nil, "true") // skips with the probe's error
	if s.err != nil {
		t.Errorf("the probe sees nothing wrong, and a launch fails: %v", s.err)
	}
}

func TestParseRelease(t *testing.T) {
	t.Parallel()
	for s, want := range map[string][2]int{
		"6.18.44-something": {6, 18}, "5.9": {5, 9}, "5.10.0": {5, 10}, "10.2-rc1": {10, 2}, "4.14.336+": {4, 14},
	} {
		if major, minor, ok := parseRelease(s); !ok || major != want[0] || minor != want[1] {
			t.Errorf("%q: %d, %d, %v", s, major, minor, ok)
		}
	}
	for _, s := range []string{"", "6", "6.", "six.1", "unknown release", ".1"} {
		if major, minor, ok := parseRelease(s); ok {
			t.Errorf("%q: %d, %d", s, major, minor)
		}
	}
	if _, _, ok := parseRelease(release()); !ok {
		t.Errorf("this kernel's: %q", release())
	}
}
