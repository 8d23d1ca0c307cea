package notify

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Reply is what the supervisor answers to a notified call. The zero Reply lets
// the call run as it would without huptime.
type Reply struct {
	answered bool
	later    bool
	value    int64
	errno    unix.Errno
}

// Continue lets the kernel run the call as it was made
// (SECCOMP_USER_NOTIF_FLAG_CONTINUE, Linux 5.5).
func Continue() Reply { return Reply{} }

// Return skips the call and makes it return value.
func Return(value int64) Reply { return Reply{answered: true, value: value} }

// Fail skips the call and makes it fail with errno.
func Fail(errno unix.Errno) Reply { return Reply{answered: true, errno: errno} }

// Anew makes the caller issue the call once more when it goes on, whatever handlers run before (ERESTARTNOINTR). It
// may be answered only to a thread that a ptrace stop or a signal awaits: the kernel looks at this result on its way
// to one, and would hand it to the program otherwise.
func Anew() Reply { return Fail(513) }

// Later leaves the caller waiting until [Request.Answer] is called, from any goroutine. The request stays valid until
// then.
func Later() Reply { return Reply{later: true} }

func (r Reply) String() string {
	switch {
	case r.later:
		return "later"
	case !r.answered:
		return "continue"
	case r.errno != 0:
		return "fail with " + unix.ErrnoName(r.errno)
	}
	return fmt.Sprintf("return %d", r.value)
}

func (r Reply) raw(id uint64) rawReply {
	switch {
	case !r.answered:
		return rawReply{ID: id, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	case r.errno != 0:
		return rawReply{ID: id, Error: -int32(r.errno)}
	}
	return rawReply{ID: id, Val: r.value}
}
