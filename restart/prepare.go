package restart

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"huptime/internal/envfile"
	"huptime/notify"
	"huptime/sockets"
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
func (s *supervisor) prepare(from *sockets.Preserved) (notify.Launch, error) {
	l, err := s.setting()
	if err != nil {
		return l, err
	}
	l.Command, l.Program, l.Hangup = s.cfg.Command, s.plain, s.cfg.PassHangup
	if s.cfg.PassFDs {
		l.Passed, l.PassedNames = s.cfg.standing.Files()
	}
	if len(s.cfg.Unlink) > 0 || from.HasPaths() {
		l.Program = s.full
	}
	// The file of a preserved socket is in nobody's way: the bind is answered, and clients need it.
	return l, unlink(slices.DeleteFunc(slices.Clone(s.cfg.Unlink), from.HasFile))
}

// unlink removes files that the service would take for another instance of its own. All are looked at before the
// first one goes.
func unlink(files []string) error {
	for _, file := range files {
		st, err := os.Lstat(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("cannot remove a file before the start (--unlink): %w", err)
		}
		switch st.Mode().Type() {
		case 0, fs.ModeSymlink, fs.ModeSocket:
		default:
			return fmt.Errorf("cannot remove %s before the start (--unlink): it is %s; name a regular file, a symbolic link or a socket", file, kind(st.Mode()))
		}
	}
	for _, file := range files {
		// unlink(2) alone, because os.Remove would also remove an empty directory that was put there since.
		if err := unix.Unlink(file); err != nil && err != unix.ENOENT {
			return fmt.Errorf("cannot remove %s before the start (--unlink): %w", file, err)
		}
	}
	return nil
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}
