package notify

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrUnsupported is matched by every error of [Probe]: this kernel, or the
// container's profile, has not what huptime needs.
var ErrUnsupported = errors.New("seccomp user notification is not available here")

// unsupported carries what is missing and the way out.
type unsupported struct{ why string }

func (u *unsupported) Error() string        { return u.why }
func (u *unsupported) Is(target error) bool { return target == ErrUnsupported }

// kernel is what Probe asks; a test answers in its place.
type kernel struct {
	release func() string
	action  func(uint32) unix.Errno
	sizes   func() (rawSizes, unix.Errno)
}

// Probe tells whether services can be run under notification here. Its error matches
// [ErrUnsupported] and says in one line what is missing and what to do.
func Probe() error {
	return probe(kernel{release: release, action: seccompActionAvailable, sizes: seccompSizes})
}

func probe(k kernel) error {
	const need = "huptime needs Linux 5.9 or later with CONFIG_SECCOMP_FILTER"
	switch errno := k.action(unix.SECCOMP_RET_USER_NOTIF); errno {
	case 0:
	case unix.EPERM, unix.EACCES:
		return &unsupported{"seccomp(2) is denied here (EPERM): let the container's seccomp profile allow seccomp, or run without that profile"}
	case unix.EOPNOTSUPP:
		return &unsupported{fmt.Sprintf("this kernel (%s) has no seccomp user notification: %s", k.release(), need)}
	case unix.ENOSYS, unix.EINVAL:
		return &unsupported{fmt.Sprintf("this kernel or sandbox (%s) has no seccomp(2) with user notification (%s): %s; gVisor has none", k.release(), unix.ErrnoName(errno), need)}
	default:
		return &unsupported{fmt.Sprintf("seccomp(2) fails here (%s): %s", unix.ErrnoName(errno), need)}
	}
	// The number of the release is asked because there is no way to try
	// ADDFD with SETFD (5.9) without a call that waits.
	if major, minor, ok := parseRelease(k.release()); ok && (major < 5 || major == 5 && minor < 9) {
		return &unsupported{fmt.Sprintf("this kernel (%s) can't hand descriptors to a waiting call: huptime needs Linux 5.9 or later", k.release())}
	}
	// A later kernel may have longer structures; it would write past ours.
	want := rawSizes{Notif: 80, Resp: 24, Data: 64}
	if sizes, errno := k.sizes(); errno != 0 || sizes.Notif > want.Notif || sizes.Resp > want.Resp {
		return &unsupported{fmt.Sprintf("this kernel (%s) has another layout of seccomp notifications than this huptime knows: a newer huptime is needed", k.release())}
	}
	return nil
}

// parseRelease reads "6.18.44-something".
func parseRelease(s string) (major, minor int, ok bool) {
	n, err := fmt.Sscanf(s, "%d.%d", &major, &minor)
	return major, minor, err == nil && n == 2
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown release"
	}
	return unix.ByteSliceToString(u.Release[:])
}
