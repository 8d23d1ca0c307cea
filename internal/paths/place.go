package paths

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoPlace says that a path can't name anything but a directory: it is empty, "/", or ends in "/", "." or "..".
// unlink(2), rename(2) of a file, and bind(2) fail on it.
var ErrNoPlace = errors.New("not a path of a file")

// Place is a name in a directory. However a path is written, and from whichever root, it stands for one place.
// It is comparable. A directory that was removed and made anew is another.
type Place struct {
	Dev, Ino uint64 // of the directory, as fstat(2) tells it
	Name     string
}

// Split cuts a path into the part that leads to the directory ("" for the current one) and the name in it. The
// error is ErrNoPlace.
func Split(path string) (dir, name string, err error) {
	slash := strings.LastIndexByte(path, '/')
	dir, name = path[:slash+1], path[slash+1:]
	if name == "" || name == "." || name == ".." || strings.IndexByte(path, 0) >= 0 {
		return "", "", ErrNoPlace
	}
	return dir, name, nil
}

// Found is a place together with its directory. Close it.
type Found struct {
	Place
	dir int // opened with O_PATH; owned
}

// Close gives the directory's descriptor back.
func (f *Found) Close() { _ = unix.Close(f.dir) }

// Clone makes another one of the same place, to be closed by itself.
func (f *Found) Clone() (*Found, error) {
	fd, err := unix.FcntlInt(uintptr(f.dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Found{Place: f.Place, dir: fd}, nil
}

// Path is a path to it that holds for this process, until Close, whatever becomes of the directories above (proc_pid_fd(5)).
func (f *Found) Path() string { return fmt.Sprintf("/proc/self/fd/%d/%s", f.dir, f.Name) }

// Remove removes the name, which must not be a directory's.
func (f *Found) Remove() error {
	return os.NewSyscallError("unlinkat", unix.Unlinkat(f.dir, f.Name, 0))
}

// Ask calls may with the directory, which is open with O_PATH and stays f's, and the name in it.
func (f *Found) Ask(may func(dir int, name string) error) error { return may(f.dir, f.Name) }

// Search looks through the directory for what has this inode number, cut to 32 bits, and changes the name to that
// entry's. It looks at no more than a few thousand entries. The error matches os.ErrNotExist where there is none.
func (f *Found) Search(inode uint32) error {
	const most = 4096
	fd, err := unix.Openat(f.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	dir := os.NewFile(uintptr(fd), f.Name)
	defer dir.Close()
	names, err := dir.Readdirnames(most)
	if err != nil && err != io.EOF {
		return err
	}
	for _, name := range names {
		if st, err := f.statName(name); err == nil && uint32(st.Ino) == inode {
			f.Name = name
			return nil
		}
	}
	return fmt.Errorf("cannot find inode %d: %w", inode, os.ErrNotExist)
}

// Stat tells what is at the place; a symbolic link is not followed. The error matches os.ErrNotExist where nothing is.
func (f *Found) Stat() (unix.Stat_t, error) { return f.statName(f.Name) }

func (f *Found) statName(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(f.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, os.NewSyscallError("fstatat", err)
}

// Own finds the place of a path of the calling process.
func Own(path string) (*Found, error) { return OfThread(os.Getpid(), unix.AT_FDCWD, path) }

// OfThread finds the place of a path that a thread, by its id, would use with directory descriptor dirfd or
// AT_FDCWD. It needs ptrace access to the thread (proc_pid_root(5)): the error matches os.ErrPermission where that
// is denied, and os.ErrNotExist where a part of the way is not there. The thread may be gone meanwhile, and its
// id another's: whoever acts on the result checks that first.
func OfThread(tid, dirfd int, path string) (*Found, error) {
	return OfThreadChecked(tid, dirfd, path, nil)
}

// OfThreadChecked is OfThread, and asks may of each directory on the way, but for the last, whether names may be looked up in it. The
// error is then may's.
func OfThreadChecked(tid, dirfd int, path string, may func(dir int) error) (*Found, error) {
	dir, name, err := Split(path)
	if err != nil {
		return nil, err
	}
	root, err := openDirectory(procPath(tid, "root"))
	if err != nil {
		return nil, cannotFind(path, err)
	}
	defer unix.Close(root)
	start := procPath(tid, "cwd")
	switch {
	case strings.HasPrefix(dir, "/"):
		start = procPath(tid, "root")
	case dirfd != unix.AT_FDCWD:
		start = procPath(tid, "fd/"+strconv.Itoa(dirfd))
	}
	from, err := openDirectory(start)
	if err != nil {
		return nil, cannotFind(path, err)
	}
	w := walker{tid: tid, root: root, at: from, may: may}
	if err := w.walk(dir); err != nil {
		_ = unix.Close(w.at)
		return nil, cannotFind(path, err)
	}
	st, err := status(w.at)
	if err != nil {
		_ = unix.Close(w.at)
		return nil, cannotFind(path, err)
	}
	return &Found{Place: Place{Dev: uint64(st.Dev), Ino: st.Ino, Name: name}, dir: w.at}, nil
}

func cannotFind(path string, err error) error { return fmt.Errorf("cannot find %q: %w", path, err) }

func procPath(tid int, file string) string { return "/proc/" + strconv.Itoa(tid) + "/" + file }

func openDirectory(path string) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, os.NewSyscallError("open", err)
}

func status(fd int) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstat(fd, &st) })
	return st, os.NewSyscallError("fstat", err)
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
