package restart

import (
	"syscall"

	"github.com/huptime/huptime/internal/oom"
)

// oomKills asks the host.
func (m *machine) oomKills() (kills uint64, own bool) {
	if m.host.oomKills == nil {
		return 0, false
	}
	return m.host.oomKills()
}

// outOfMemory says what the out-of-memory killer may have to do with the end of a leader: the kernel tells how often it has struck, and
// not whom. It is nothing for a leader that was not killed, or that huptime has killed.
func (m *machine) outOfMemory(g *generation) string {
	if g.killed || syscall.WaitStatus(g.status).Signal() != syscall.SIGKILL {
		return ""
	}
	switch kills, own := m.oomKills(); {
	case kills <= g.kills:
		return ""
	case own:
		return "; the out-of-memory killer has struck in this memory cgroup meanwhile: raise its limit, or run one generation at a time (--exec)"
	}
	return "; the machine's out-of-memory killer has struck meanwhile"
}

// ended is how the generation has ended, for people.
func (g *generation) ended() string { return g.status.String() + g.memory }

// oomCounter returns host.oomKills.
func oomCounter() func() (uint64, bool) {
	counter, ok := oom.Find()
	if !ok {
		return nil
	}
	return func() (uint64, bool) {
		kills, err := counter.Kills()
		if err != nil {
			return 0, false
		}
		return kills, counter.Own
	}
}
