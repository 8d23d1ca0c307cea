package sockets

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
)

// The handler is the first word in every layout, and all else is 0: SIG_IGN, no flags, no restorer, an empty mask.
func TestSigactionLayouts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		b             []byte
		length, first int // sizes of the structure and of its first word
	}{
		"64 bits":           {ignored64[:], 8 + 8 + 8 + 8, 8},
		"32 bits":           {ignored32[:], 4 + 4 + 4 + 8, 4},
		"32 bits, the old ": {ignoredOld[:], 4 + 4 + 4 + 4, 4},
	} {
		var handler uint64
		if test.first == 8 {
			handler = binary.LittleEndian.Uint64(test.b)
		} else {
			handler = uint64(binary.LittleEndian.Uint32(test.b))
		}
		if len(test.b) != test.length || handler != 1 {
			t.Errorf("%s: %d bytes, handler %d", name, len(test.b), handler)
		}
		for _, b := range test.b[test.first:] {
			if b != 0 {
				t.Errorf("%s: %x", name, test.b)
			}
		}
	}
}

// A service that installs a handler for SIGHUP is told that it was ignored before, and lives on as deaf as it was.
func TestSigactionOfService(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		g := launch(t, 1, level, nil, NewKnocks(), 0)
		action := make([]byte, 32)
		action[1] = 0x10 // nobody's code: to run it would be the end
		old := make([]byte, 40)
		for i := range old {
			old[i] = 0xaa
		}
		for range 2 {
			r := g.Call(t, 0, unix.SYS_RT_SIGACTION, int(unix.SIGHUP), action, old, 8)
			if r.Errno != 0 || [32]byte(r.Memory[2]) != ignored64 || r.Memory[2][32] != 0xaa {
				t.Errorf("%v, old action %x", r.Errno, r.Memory[2])
			}
		}
		// Nowhere to write to, which is no reason to hear it.
		if r := g.Call(t, 0, unix.SYS_RT_SIGACTION, int(unix.SIGHUP), action, 16, 8); r.Errno != 0 {
			t.Errorf("%v", r.Errno)
		}
		for range 20 {
			if err := unix.Kill(g.PID, unix.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		// A query is none of huptime's business.
		r := g.Call(t, 0, unix.SYS_RT_SIGACTION, int(unix.SIGHUP), 0, old, 8)
		if r.Errno != 0 || binary.NativeEndian.Uint64(r.Memory[2]) != 1 {
			t.Errorf("%v, action %x", r.Errno, r.Memory[2])
		}
	})
}
