package restart

import (
	"os"
	"slices"

	"github.com/huptime/huptime/internal/envfile"
	"github.com/huptime/huptime/internal/proctree"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// setting is what the service is started in and the check is run in: read and resolved anew each time, so
// that a deploy which changes the file or flips a link takes effect.
func (s *supervisor) setting() (notify.Launch, error) {
	l := notify.Launch{Inherited: s.inherited, Dir: s.cfg.Dir}
	if s.cfg.EnvFile != "" {
		variables, err := envfile.Read(s.cfg.EnvFile)
		if err != nil {
			return l, err
		}
		l.Env = envfile.Merge(os.Environ(), variables)
	}
	return l, nil
}

// prepare makes everything ready for the launch of a generation. Its error
// stops the launch, and nothing has been started.
func (s *supervisor) prepare(number int, from *sockets.Preserved) (notify.Launch, error) {
	l, err := s.setting()
	if err != nil {
		return l, err
	}
	l.Command, l.Hangup = s.cfg.Command, s.cfg.PassHangup
	l.Session = s.sessions
	if s.cfg.PassFDs {
		l.Passed, l.PassedNames = s.cfg.standing.Files()
	}
	if l.Program, err = s.program(number, from); err != nil {
		return l, err
	}
	// The file of a preserved socket is in nobody's way: the bind is answered, and clients need it.
	return l, s.removals.remove(slices.DeleteFunc(slices.Clone(s.cfg.Unlink), from.HasFile), s.cfg.Log)
}

// starts is what starts a launcher, which is to be had afterwards.
func starts(l notify.Launch, to **notify.Launcher) func() (proctree.Began, error) {
	return func() (proctree.Began, error) {
		launcher, err := notify.Start(l)
		if err != nil {
			return proctree.Began{}, err
		}
		*to = launcher
		return proctree.Began{PID: launcher.PID, Session: launcher.Session}, nil
	}
}
