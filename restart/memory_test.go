package restart

import (
	"strings"
	"syscall"
	"testing"
)

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	var kills uint64
	own := true
	m := newMachine(Config{}, host{oomKills: func() (uint64, bool) { return kills, own }})
	defer m.stop()
	const struck = "out-of-memory killer has struck"
	kills = 3
	for name, test := range map[string]struct {
		generation generation
		own        bool
		says       string
	}{
		"killed, and it has struck": {generation{status: killedBy(syscall.SIGKILL), kills: 2}, true, "in this memory cgroup"},
		"on the machine":            {generation{status: killedBy(syscall.SIGKILL), kills: 2}, false, "the machine's"},
		"killed by somebody else":   {generation{status: killedBy(syscall.SIGKILL), kills: 3}, true, ""},
		"killed by huptime":         {generation{status: killedBy(syscall.SIGKILL), kills: 2, killed: true}, true, ""},
		"ended by another signal":   {generation{status: killedBy(syscall.SIGSEGV), kills: 2}, true, ""},
		"exited":                    {generation{status: exited(9), kills: 2}, true, ""},
	} {
		own = test.own
		said := m.outOfMemory(&test.generation)
		if strings.Contains(said, struck) != (test.says != "") || !strings.Contains(said, test.says) {
			t.Errorf("%s: %q", name, said)
		}
	}
	m.host.oomKills = nil
	if said := m.outOfMemory(&generation{status: killedBy(syscall.SIGKILL)}); said != "" {
		t.Errorf("nobody counts: %q", said)
	}
}
