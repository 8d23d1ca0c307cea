package sockets

import (
	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/notify"
)

// The kernel's struct sigaction with SIG_IGN and nothing else, as the last
// argument but one of rt_sigaction(2) points to it. It is 32 bytes long in
// 64-bit ABIs (handler, flags, restorer, mask: 8 each), 20 in 32-bit ones
// (4, 4, 4, 8); sigaction(2)'s is 16 (handler, mask, flags, restorer).
var (
	ignored64  = [32]byte{0: 1}
	ignored32  = [20]byte{0: 1}
	ignoredOld = [16]byte{0: 1}
)

// sigaction answers an rt_sigaction for SIGHUP: the service is told that SIGHUP was ignored, which is the truth, and
// that its handler was installed, which it was not: the service stays deaf. The handler is noted, for a process that
// signals itself.
func (h *hangups) sigaction(r *notify.Request) notify.Reply {
	if h.installs(r) {
		return notify.Continue()
	}
	old := ignored64[:]
	switch {
	case r.Call == notify.CallOldSigaction:
		old = ignoredOld[:]
	case r.Compat():
		old = ignored32[:]
	}
	if r.Call == notify.CallSigaction {
		action := make([]byte, len(old))
		if err := r.ReadMemory(r.Args[1], action); err == nil {
			h.note(r, action)
		}
	}
	if r.Args[2] == 0 {
		return notify.Return(0)
	}
	if err := r.WriteMemory(r.Args[2], old); err != nil {
		// A bad pointer gets the kernel's own answer in the caller's stead
		// only if the call runs, and then the handler would be installed. A process that
		// can't be written to stays deaf too; it sees its variable unchanged.
		return notify.Return(0)
	}
	return notify.Return(0)
}

// handler is what the action does: 0 is SIG_DFL, 1 is SIG_IGN. All ABIs here are little-endian.
func (a action) handler() (value uint64) {
	size := 4
	if a.abi.Wide() {
		size = 8
	}
	for i := range size {
		value |= uint64(a.bytes[i]) << (8 * i)
	}
	return value
}

// action is what a process wanted to do on SIGHUP, in the layout of its ABI.
type action struct {
	abi   abi.ABI
	bytes []byte
}
