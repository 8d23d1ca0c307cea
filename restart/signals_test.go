package restart

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"TERM": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "term": unix.SIGTERM, "sigquit": unix.SIGQUIT,
		"15": unix.SIGTERM, "1": unix.SIGHUP, "64": 64, "WINCH": unix.SIGWINCH,
	} {
		if got, err := ParseSignal(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65", "-1", "SIG", "TERMINATE", "TERM ", "999999999999"} {
		sig, err := ParseSignal(text)
		if err == nil {
			t.Errorf("%q is taken for signal %d", text, sig)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than one line: %v", text, err)
		}
	}
}

func TestStatus(t *testing.T) {
	for code := range 256 {
		if got := exited(code).Code(); got != code {
			t.Errorf("exited with %d: status %d", code, got)
		}
	}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if got := killedBy(sig).Code(); got != 128+int(sig) {
			t.Errorf("killed by %d: status %d", sig, got)
		}
		const dumpedCore = 0x80
		if got := (killedBy(sig) | dumpedCore).Code(); got != 128+int(sig) {
			t.Errorf("killed by %d with a core dump: status %d", sig, got)
		}
	}
	for status, want := range map[Status]string{
		exited(0): "exited with status 0", exited(7): "exited with status 7",
		killedBy(unix.SIGSEGV): "killed by SIGSEGV", killedBy(40): "killed by signal 40",
	} {
		if got := status.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
