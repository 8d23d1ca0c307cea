package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrFormat is what a parse error matches: the kernel wrote what this package does not understand.
var ErrFormat = errors.New("unexpected format")

// path returns "/proc/ID" followed by rest.
func path(id int, rest string) string {
	var buf [64]byte
	b := append(buf[:0], "/proc/"...)
	b = strconv.AppendInt(b, int64(id), 10)
	b = append(b, rest...)
	return string(b)
}

// threadPath returns "/proc/PID/task/TID" followed by rest.
func threadPath(pid, tid int, rest string) string {
	var buf [64]byte
	b := append(buf[:0], "/proc/"...)
	b = strconv.AppendInt(b, int64(pid), 10)
	b = append(b, "/task/"...)
	b = strconv.AppendInt(b, int64(tid), 10)
	b = append(b, rest...)
	return string(b)
}

// cannotRead says which file it was. ESRCH is how a file that was opened in time reports that its process ended since; for
// a caller that is the same as ENOENT at open, so both match os.ErrNotExist. So does EACCES
// where the process is about to be gone: see ending.
func cannotRead(name string, err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EACCES) && ending(name) {
		return fmt.Errorf("cannot read %s: %w: %w", name, os.ErrNotExist, err)
	}
	return fmt.Errorf("cannot read %s: %w", name, err)
}

func open(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func read(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// readStart reads as much of a file as fits into buf, with one read where the kernel gives all at once, as it does for
// the seq_files of /proc. For files of which only the beginning matters, or whose length has a known limit.
func readStart(name string, buf []byte) ([]byte, error) {
	fd, err := open(name, 0)
	if err != nil {
		return nil, cannotRead(name, err)
	}
	n, err := read(fd, buf)
	_ = unix.Close(fd)
	if err != nil {
		return nil, cannotRead(name, err)
	}
	return buf[:n], nil
}

// readAll reads a whole file; it starts in buf and takes memory only where that is too small.
func readAll(name string, buf []byte) ([]byte, error) {
	fd, err := open(name, 0)
	if err != nil {
		return nil, cannotRead(name, err)
	}
	defer unix.Close(fd)
	b := buf[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := read(fd, b[len(b):cap(b)])
		if err != nil {
			return nil, cannotRead(name, err)
		}
		if n == 0 {
			return b, nil
		}
		b = b[:len(b)+n]
	}
}

// numbers appends the numeric names of an open directory, in the kernel's order.
func numbers(dir int, to []int) ([]int, error) {
	var buf [8192]byte
	for {
		n, err := unix.Getdents(dir, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return to, err
		}
		to = parseDirents(buf[:n], to)
	}
}

// parseDirents appends the numeric names of a buffer of struct linux_dirent64 (getdents64(2)): inode and offset
// of eight bytes each, the record's length in two, the type in one, the name up to a NUL.
func parseDirents(b []byte, to []int) []int {
	const lengthAt, nameAt = 16, 19
	for len(b) > nameAt {
		length := int(binary.NativeEndian.Uint16(b[lengthAt:]))
		if length <= nameAt || length > len(b) {
			break
		}
		if n, rest, ok := decimal(b[nameAt:length]); ok && (len(rest) == 0 || rest[0] == 0) && n <= maxID {
			to = append(to, int(n))
		}
		b = b[length:]
	}
	return to
}

// directory lists the numeric names in a directory of /proc.
func directory(name string) ([]int, error) {
	fd, err := open(name, unix.O_DIRECTORY)
	if err != nil {
		return nil, cannotRead(name, err)
	}
	ids, err := numbers(fd, nil)
	_ = unix.Close(fd)
	if err != nil {
		return nil, cannotRead(name, err)
	}
	return ids, nil
}
