package epollset

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
)

// What abi.ABI.EpollEvent makes is what the kernel reads.
func TestEpollEventLayout(t *testing.T) {
	t.Parallel()
	b := abi.Native.EpollEvent(unix.EPOLLIN, 0x0102030405060708)
	if len(b) != sizeofEpollEvent {
		t.Errorf("%d bytes, want %d", len(b), sizeofEpollEvent)
	}
}
