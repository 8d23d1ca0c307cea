package sockets

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	sysPoll   = unix.SYS_POLL
	sysSelect = unix.SYS_SELECT
)

// waitsForDescriptors tells whether a call waits until a descriptor is ready, and looks
// at it anew when it is restarted; or for another thread.
func waitsForDescriptors(number int64) bool {
	switch number {
	case unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_SELECT, unix.SYS_PSELECT6,
		unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_FUTEX:
		return true
	}
	return false
}

// epollEvent is struct epoll_event, which is packed here (include/uapi/linux/eventpoll.h).
func epollEvent(events uint32, data uint64) []byte {
	b := make([]byte, 12)
	binary.NativeEndian.PutUint32(b, events)
	binary.NativeEndian.PutUint64(b[4:], data)
	return b
}
