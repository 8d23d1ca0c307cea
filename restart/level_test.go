package restart

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
)

// Yama's scopes, on kernels that may not have it: what huptime meets under each.
func TestDecide(t *testing.T) {
	t.Parallel()
	denied := os.NewSyscallError("process_vm_readv", unix.EPERM)
	for name, test := range map[string]struct {
		access
		level    notify.Level
		says     string
		hopeless bool
	}{
		"no Yama":                       {access{scope: -1}, notify.LevelListeners, "are permitted", false},
		"scope 0":                       {access{scope: 0}, notify.LevelListeners, "are permitted", false},
		"scope 1: they are descendants": {access{scope: 1}, notify.LevelListeners, "are permitted", false},
		"scope 2 with CAP_SYS_PTRACE":   {access{scope: 2}, notify.LevelListeners, "are permitted", false},
		"scope 2":                       {access{remote.ErrDenied, denied, 2}, notify.LevelConnections, "set it to 1, or give huptime CAP_SYS_PTRACE", true},
		"scope 3":                       {access{remote.ErrDenied, denied, 3}, notify.LevelConnections, "until the next boot", true},
		"no ptrace in the profile":      {access{remote.ErrDenied, nil, 1}, notify.LevelConnections, "can't be traced", false},
		"32-bit code only, or the like": {access{remote.ErrForeign, nil, -1}, notify.LevelConnections, remote.ErrForeign.Error(), false},
		"memory alone is out of reach":  {access{nil, denied, -1}, notify.LevelListeners, "are permitted", true},
	} {
		level, why, err := test.decide()
		if level != test.level || !strings.Contains(why, test.says) || errors.Is(err, errNoAccess) != test.hopeless {
			t.Errorf("%s: %s, %q, %v", name, level, why, err)
		}
		if test.hopeless && (!errors.Is(err, unix.EPERM) || test.scope > 1 && !strings.Contains(err.Error(), "ptrace_scope")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPtraceScope(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ptrace_scope")
	if got := ptraceScope(file); got != -1 {
		t.Errorf("no file: %d", got)
	}
	for content, want := range map[string]int{"0\n": 0, "1\n": 1, "2": 2, "3\n": 3, "": -1, "x\n": -1} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := ptraceScope(file); got != want {
			t.Errorf("%q: %d", content, got)
		}
	}
}
