package paths

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

const (
	maxLinks = 40   // MAXSYMLINKS in include/linux/namei.h
	maxSteps = 4096 // as many components as a path can have, less than 40 links could make of it
)

// walker walks a path for a thread.
type walker struct {
	tid  int
	root int                 // the thread's root directory; the caller's
	at   int                 // where it is: owned by the caller, replaced at each step
	may  func(dir int) error // whether names may be looked up in a directory; nil: in all
}

// walk goes along all components of dir. An absolute one starts at the root, whatever at is.
func (w *walker) walk(dir string) error {
	left := components(dir)
	if strings.HasPrefix(dir, "/") {
		if err := w.toRoot(); err != nil {
			return err
		}
	}
	links := 0
	for steps := 0; len(left) > 0; steps++ {
		name := left[0]
		left = left[1:]
		if steps == maxSteps {
			return unix.ELOOP
		}
		link, err := w.step(name)
		if err != nil {
			return err
		}
		if link == "" {
			continue
		}
		if links++; links > maxLinks {
			return unix.ELOOP
		}
		left = append(components(link), left...)
		if strings.HasPrefix(link, "/") {
			if err := w.toRoot(); err != nil {
				return err
			}
		}
	}
	return nil
}

// components leaves out what leads nowhere.
func components(path string) []string {
	var list []string
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part != "." {
			list = append(list, part)
		}
	}
	return list
}

func (w *walker) toRoot() error {
	fd, err := unix.FcntlInt(uintptr(w.root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	w.moveTo(fd)
	return nil
}

func (w *walker) moveTo(fd int) {
	_ = unix.Close(w.at)
	w.at = fd
}

// step goes into name, or returns where the symbolic link of that name leads.
func (w *walker) step(name string) (link string, err error) {
	if w.may != nil {
		if err := w.may(w.at); err != nil {
			return "", err
		}
	}
	if name == ".." {
		if atRoot, err := w.atRoot(); err != nil || atRoot {
			return "", err // the root is its own parent
		}
	}
	fd, err := w.open(name, unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	st, err := status(fd)
	if err != nil {
		_ = unix.Close(fd)
		return "", err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.moveTo(fd)
		return "", nil
	case unix.S_IFLNK:
		defer unix.Close(fd)
		return w.follow(fd, name)
	}
	_ = unix.Close(fd)
	return "", unix.ENOTDIR
}

// atRoot compares by identity, because the root can be reached by other ways than the one that was taken
// (a bind mount, "cd /proc/self/root").
func (w *walker) atRoot() (bool, error) {
	here, err := status(w.at)
	if err != nil {
		return false, err
	}
	root, err := status(w.root)
	return here.Dev == root.Dev && here.Ino == root.Ino, err
}

func (w *walker) open(name string, flags int) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Openat(w.at, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
		return err
	})
	return fd, os.NewSyscallError("openat", err)
}

// follow reads the link that is open at fd. Links of /proc are no text: they jump, and "self" is whoever asks.
func (w *walker) follow(fd int, name string) (string, error) {
	var fs unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Fstatfs(w.at, &fs) }); err != nil {
		return "", os.NewSyscallError("fstatfs", err)
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return w.followProc(name)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", os.NewSyscallError("readlinkat", err)
	}
	if n == 0 {
		return "", unix.ENOENT
	}
	return string(buf[:n]), nil
}

func (w *walker) followProc(name string) (string, error) {
	switch name {
	case "self", "thread-self":
		tgid, err := proc.Tgid(w.tid)
		if err != nil || name == "self" {
			return strconv.Itoa(tgid), err
		}
		return strconv.Itoa(tgid) + "/task/" + strconv.Itoa(w.tid), nil
	}
	fd, err := w.open(name, unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	w.moveTo(fd)
	return "", nil
}
