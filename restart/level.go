package restart

import (
	"log/slog"
	"time"

	"huptime/internal/abi"
	"huptime/internal/remote"
	"huptime/notify"
)

// chooseLevel finds out whether remote calls are permitted here, by trying one on a child that is thrown
// away: whatever forbids them (a container's profile, Yama, a missing ptrace) forbids it that.
// It runs before the first launch, on the goroutine that reaps.
func chooseLevel(log *slog.Logger) notify.Level {
	err := tryRemoteCall()
	level := notify.LevelListeners
	if err != nil {
		level = notify.LevelConnections
		log.Info("level chosen", "track", string(level), "why", "remote calls are not permitted: "+err.Error())
		return level
	}
	log.Debug("level chosen", "track", string(level), "why", "remote calls are permitted")
	return level
}

func tryRemoteCall() error {
	child, err := notify.StartIdle()
	if err != nil {
		return err
	}
	defer child.Discard()
	f, err := remote.Freeze(child.PID, time.Second)
	if err != nil {
		return err
	}
	defer f.Thaw()
	_, err = f.Call(abi.Getpid)
	return err
}
