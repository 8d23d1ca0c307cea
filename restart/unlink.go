package restart

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/internal/permission"
)

// removals are the files of Config.Unlink by the directories in which they were first found. The service may be able to put another directory, or a
// link to one, in a directory's place, and huptime mostly has more privilege than the service. It owns the directories' descriptors.
type removals map[string]*paths.Found

// remove removes files that the service would take for another instance of its own. All are looked at before the first one goes.
func (r removals) remove(files []string, log *slog.Logger) error {
	there := make(map[string]*paths.Found)
	for _, file := range files {
		found, err := r.find(file, log)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot remove a file before the start (--unlink): %w", err)
		}
		st, err := found.Stat()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("cannot remove a file before the start (--unlink): %s: %w", file, err)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFLNK, unix.S_IFSOCK:
			there[file] = found
		default:
			return fmt.Errorf("cannot remove %s before the start (--unlink): it is %s; name a regular file, a symbolic link or a socket", file, kind(st.Mode))
		}
	}
	for file, found := range there {
		// unlink(2) alone, because os.Remove would also remove an empty directory that was put there since.
		if err := found.Remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove %s before the start (--unlink): %w", file, err)
		}
	}
	return nil
}

// find finds the place of a file. Where its directory is another one than before, that is followed if only huptime's user could have changed the way
// there, as in a deploy that flips a link, or if huptime has no privilege that others could be after. What it returns stays r's.
func (r removals) find(file string, log *slog.Logger) (*paths.Found, error) {
	now, err := paths.Own(file)
	before := r[file]
	switch {
	case err != nil && (before == nil || !errors.Is(err, fs.ErrNotExist)):
		return nil, err
	case err != nil:
		return before, nil
	case before != nil && before.Place == now.Place, before != nil && !mayFollow(file):
		if before.Place != now.Place {
			log.Warn("the directory of --unlink is another one than before, and not only huptime's user could have changed it: the one from before is used", "file", file)
		}
		now.Close()
		return before, nil
	case before != nil:
		before.Close()
	}
	r[file] = now
	return now, nil
}

// mayFollow tells whether nobody else could have made the way to a file lead elsewhere. A directory that others may write to says nothing, sticky
// or not: they may put links there.
func mayFollow(file string) bool {
	own, err := permission.Of(os.Getpid())
	if err == nil && own.UID != 0 && own.Caps&(1<<unix.CAP_DAC_OVERRIDE|1<<unix.CAP_FOWNER) == 0 {
		return true
	}
	trusted := func(dir int) error {
		var st unix.Stat_t
		if err := unix.Fstat(dir, &st); err != nil {
			return err
		}
		if st.Uid != 0 && st.Uid != own.UID || st.Mode&0o022 != 0 {
			return unix.EACCES
		}
		return nil
	}
	found, err := paths.OfThreadChecked(os.Getpid(), unix.AT_FDCWD, file, trusted)
	if err != nil {
		return false
	}
	defer found.Close()
	return found.Ask(func(dir int, _ string) error { return trusted(dir) }) == nil
}

func (r removals) close() {
	for _, found := range r {
		found.Close()
	}
}

func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFBLK, unix.S_IFCHR:
		return "a device"
	}
	return "something else"
}
