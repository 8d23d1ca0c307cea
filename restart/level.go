package restart

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
)

// access is what huptime may do with its own descendants here.
type access struct {
	call   error // why it can't make them run a system call, or nil
	memory error // why it can't read their memory, or nil
	scope  int   // Yama's ptrace_scope, or -1 where there is no Yama
}

// errNoAccess: nothing can be learned of a service's calls, and nothing preserved.
var errNoAccess = errors.New("huptime may not look into its own service here")

// decide chooses the level. The error says why no restart can succeed at either; it matches errNoAccess.
func (a access) decide() (level notify.Level, why string, err error) {
	forbids := ""
	switch {
	case a.call == nil && a.memory == nil:
	case a.scope == 2:
		forbids = ": kernel.yama.ptrace_scope is 2; set it to 1, or give huptime CAP_SYS_PTRACE"
	case a.scope >= 3:
		forbids = fmt.Sprintf(": kernel.yama.ptrace_scope is %d; set it to 1 (it stays as it is until the next boot)", a.scope)
	}
	if a.memory != nil {
		err = fmt.Errorf("%w: %w%s", errNoAccess, a.memory, forbids)
	}
	if a.call == nil {
		return notify.LevelListeners, "remote calls are permitted", err
	}
	return notify.LevelConnections, "remote calls are not permitted: " + a.call.Error() + forbids, err
}

// chooseLevel finds out what is permitted here, by trying it on a child that is thrown away: whatever forbids it (a container's
// profile, Yama, a missing ptrace) forbids it that. Yama's scope 1 does not: every process of the service descends from huptime.
// It runs before the first launch, on the goroutine that reaps. The error is decide's.
func chooseLevel(log *slog.Logger) (notify.Level, error) {
	level, why, err := tryAccess().decide()
	if level == notify.LevelListeners {
		log.Debug("level chosen", "track", string(level), "why", why)
	} else {
		log.Info("level chosen", "track", string(level), "why", why)
	}
	return level, err
}

// reconsider chooses the level anew, where it was huptime's to choose, before a generation is launched: holders, processes of the current one, have
// the listening sockets. A process with a seccomp filter of its own can be gated at connections alone. What holds of one generation is taken to hold
// of the next.
func (s *supervisor) reconsider(holders []int) {
	if !s.auto || s.cfg.Level != notify.LevelListeners {
		return
	}
	i := slices.IndexFunc(holders, remote.Sandboxed)
	if i < 0 {
		return
	}
	plain, full, err := buildFilters(notify.LevelConnections, s.options)
	if err != nil {
		s.cfg.Log.Error("the level stays as it is", "track", string(s.cfg.Level), "error", err.Error())
		return
	}
	s.plain, s.full, s.cfg.Level = plain, full, notify.LevelConnections
	clear(s.programs)
	s.cfg.Log.Info("level chosen", "track", string(s.cfg.Level),
		"why", fmt.Sprintf("process %d has a seccomp filter of its own, under which it is made to run no call", holders[i]))
}

func tryAccess() access {
	a := access{scope: ptraceScope("/proc/sys/kernel/yama/ptrace_scope")}
	child, err := notify.StartIdle()
	if err != nil {
		a.call = err
		return a
	}
	defer child.Discard()
	a.memory = tryMemory(child.PID)
	a.call = tryRemoteCall(child.PID)
	return a
}

func tryRemoteCall(pid int) error {
	return remote.With(pid, time.Second, func(f *remote.Frozen) error {
		_, err := f.Call(abi.Getpid)
		return err
	})
}

// tryMemory asks for memory where there is none: whether that is permitted is looked at first.
func tryMemory(pid int) error {
	err := proc.ReadMemory(pid, 0, make([]byte, 1))
	if errors.Is(err, unix.EFAULT) {
		return nil
	}
	return err
}

// ptraceScope reads Yama's setting (Documentation/admin-guide/LSM/Yama.rst of the kernel); -1 where there is none.
func ptraceScope(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return -1
	}
	return n
}
