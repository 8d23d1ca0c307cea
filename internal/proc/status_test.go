package proc

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStatus(t *testing.T) {
	for code := range 256 {
		if got := exitedWith(code).Code(); got != code {
			t.Errorf("exited with %d: status %d", code, got)
		}
	}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if got := endedBy(sig).Code(); got != 128+int(sig) {
			t.Errorf("killed by %d: status %d", sig, got)
		}
		const dumpedCore = 0x80
		if got := (endedBy(sig) | dumpedCore).Code(); got != 128+int(sig) {
			t.Errorf("killed by %d with a core dump: status %d", sig, got)
		}
	}
	for status, want := range map[Status]string{
		exitedWith(0): "exited with status 0", exitedWith(7): "exited with status 7",
		endedBy(unix.SIGSEGV): "killed by SIGSEGV", endedBy(40): "killed by signal 40",
	} {
		if got := status.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func exitedWith(code int) Status           { return Status(code << 8) }
func endedBy(signal syscall.Signal) Status { return Status(signal) }
