package sockets

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// arm64 has ppoll and pselect6 alone; no call has these numbers.
const (
	sysPoll   = -2
	sysSelect = -3
)

// waitsForDescriptors tells whether a call waits until a descriptor is ready, and looks
// at it anew when it is restarted; or for another thread.
func waitsForDescriptors(number int64) bool {
	switch number {
	case unix.SYS_PPOLL, unix.SYS_PSELECT6,
		unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_FUTEX:
		return true
	}
	return false
}

// epollEvent is struct epoll_event, which is not packed here (include/uapi/linux/eventpoll.h).
func epollEvent(events uint32, data uint64) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b, events)
	binary.NativeEndian.PutUint64(b[8:], data)
	return b
}
