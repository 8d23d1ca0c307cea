package sdnotify

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSendNothing(t *testing.T) {
	if err := Send("", "READY=1"); err != nil {
		t.Error(err)
	}
	if err := Send("/nowhere"); err != nil {
		t.Error(err)
	}
}

func TestSendRefuses(t *testing.T) {
	for _, c := range []struct{ address, assignment, want string }{
		{"vsock:2:1234", "READY=1", "neither a path"},
		{"relative", "READY=1", "neither a path"},
		{"@", "READY=1", "neither a path"},
		{"/", "READY=1", "neither a path"},
		{"/nowhere/\x1b", "READY=1", "/nowhere/?"},
		{"/nowhere", "READY", "no assignment"},
		{"/nowhere", "=1", "no assignment"},
		{"/nowhere", "STATUS=a\nREADY=1", "no assignment"},
		{"/nowhere", "STATUS=a\x00", "no assignment"},
		{"/" + strings.Repeat("x", 200), "READY=1", "invalid argument"},
	} {
		if err := Send(c.address, c.assignment); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q to %q: %v; want %q in it", c.assignment, c.address, err, c.want)
		}
	}
	if err := Send(filepath.Join(t.TempDir(), "none"), "READY=1"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v is not ENOENT", err)
	}
}
