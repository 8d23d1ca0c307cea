package pidfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// File is a pid file that this process owns.
type File struct {
	path string
	held *os.File // the lock goes with it; close-on-exec, so that no child keeps it
}

// errChanged says that somebody else was at the file at the same moment.
var errChanged = errors.New("other processes keep changing it; try again")

// attempts bounds how often Create starts again because others are at it.
const attempts = 100

// Create writes this process's PID to path, with mode 0644 whatever the umask. The caller must call Remove on
// what it returns. Where a live process owns the file, or the path is no file, the error is one line that
// says so and what to do.
func Create(path string) (*File, error) {
	// A later change of the working directory must not change whose file it is.
	full, err := filepath.Abs(path)
	if err == nil {
		for range attempts {
			var f *File
			if f, err = create(full); !errors.Is(err, errChanged) {
				if err == nil {
					return f, nil
				}
				break
			}
		}
	}
	return nil, fmt.Errorf("cannot use the pid file %s: %w", path, err)
}

func create(path string) (*File, error) {
	stale, err := takeOver(path)
	if err != nil {
		return nil, err
	}
	if stale != nil {
		// Held until the new file is in place: two that find the same stale file come one after the other.
		defer stale.Close()
	}
	f, temporary, err := writeBeside(path)
	if err != nil {
		return nil, err
	}
	if err := place(temporary, path, stale != nil); err != nil {
		f.Close()
		_ = os.Remove(temporary)
		return nil, err
	}
	return &File{path: path, held: f}, nil
}

// takeOver locks the file that is there. It returns nil where there is none. The
// caller closes what it returns.
func takeOver(path string) (*os.File, error) {
	// O_NONBLOCK: to open a FIFO would wait for its other end.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, unix.ELOOP):
		return nil, errors.New("it is a symbolic link; name a file of its own")
	case errors.Is(err, unix.ENXIO):
		return nil, errors.New("it is no regular file; name another one")
	case err != nil:
		return nil, fmt.Errorf("%w; check the directory and who may write there", bare(err))
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is no regular file; name another one")
	}
	if err := lock(f); errors.Is(err, unix.EWOULDBLOCK) {
		if !names(path, f) {
			return nil, errChanged
		}
		return nil, fmt.Errorf("a live huptime owns it%s; end that one, or name another file", owner(f))
	} else if err != nil {
		return nil, err
	}
	if !names(path, f) {
		return nil, errChanged // its owner has removed or replaced it since it was opened
	}
	keep = true
	return f, nil
}

func lock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// owner says which PID the file holds, as its owner wrote it.
func owner(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 1 {
		return ""
	}
	return fmt.Sprintf(" (PID %d)", pid)
}

// names tells whether the path leads to the open file.
func names(path string, f *os.File) bool {
	at, err := os.Lstat(path)
	if err != nil {
		return false
	}
	open, err := f.Stat()
	return err == nil && os.SameFile(at, open)
}

// writeBeside makes the new file, locked, under a name of its own in the same directory.
func writeBeside(path string) (made *os.File, name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, "", fmt.Errorf("%w; check the directory and who may write there", bare(err))
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(0o644); err != nil {
		return nil, "", bare(err)
	}
	if err := lock(f); err != nil {
		return nil, "", err
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		return nil, "", bare(err)
	}
	return f, f.Name(), nil
}

// place gives the new file its name, in place of a file that is locked by us, or of none.
func place(temporary, path string, over bool) error {
	if over {
		return bare(os.Rename(temporary, path))
	}
	err := unix.Renameat2(unix.AT_FDCWD, temporary, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	switch err {
	case unix.EEXIST:
		return errChanged
	case unix.EINVAL, unix.ENOSYS: // a file system that can't tell; it is seldom asked by two at once
		return bare(os.Rename(temporary, path))
	}
	return os.NewSyscallError("renameat2", err)
}

// bare drops the path, which Create says.
func bare(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}

// Remove removes the file, unless the path has become somebody else's, and lets go of the lock.
func (f *File) Remove() {
	if names(f.path, f.held) {
		_ = os.Remove(f.path)
	}
	f.held.Close()
}
