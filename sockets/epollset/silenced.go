package epollset

import "golang.org/x/sys/unix"

// A silenced entry of an epoll set must get back what the program had asked for, should its generation take over again.
// The entry itself keeps that: the kernel stores bits of an event mask that mean nothing to it, and compares the mask
// with what a file has to say, which is none of them (ep_item_poll in fs/eventpoll.c). So it does not matter which of
// the processes that share a set the entry was found by, and who of them has ended since; and where the program has
// changed the entry meanwhile, what it then asked for holds, because the mark is gone.

// silencedMark is EPOLLMSG, which no file ever reports and no program asks for (epoll_ctl(2) does not know it).
const silencedMark = 0x400

// askable are the flags that are kept, each as bit keptFrom and up.
var askable = [...]uint32{unix.EPOLLIN, unix.EPOLLPRI, unix.EPOLLOUT, unix.EPOLLRDNORM, unix.EPOLLRDBAND, unix.EPOLLWRNORM, unix.EPOLLWRBAND,
	unix.EPOLLRDHUP, unix.EPOLLET, unix.EPOLLONESHOT, unix.EPOLLEXCLUSIVE}

// keptFrom is the lowest of eleven bits that the kernel has no use for; bit 27 is EPOLL_URING_WAKE
// (include/uapi/linux/eventpoll.h).
const keptFrom = 16

// silencedFrom is what a silenced entry asks for: nothing, and a note of what it did ask for.
func silencedFrom(events uint32) uint32 {
	silenced := uint32(silencedMark)
	for i, flag := range askable {
		if events&flag != 0 {
			silenced |= 1 << (keptFrom + i)
		}
	}
	return silenced
}

// Silenced tells whether the entry was silenced, and not changed by the program since.
func (r Entry) Silenced() bool { return r.Events&silencedMark != 0 }

// Requested is what the program has asked for.
func (r Entry) Requested() uint32 {
	if !r.Silenced() {
		return r.Events
	}
	var events uint32
	for i, flag := range askable {
		if r.Events&(1<<(keptFrom+i)) != 0 {
			events |= flag
		}
	}
	return events
}
