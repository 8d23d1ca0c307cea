package epollset

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const sizeofEpollEvent = int(unsafe.Sizeof(unix.EpollEvent{}))
