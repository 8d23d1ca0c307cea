package sdnotify

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// directoryPattern names the directories: os.MkdirTemp puts a random number where the star is.
	directoryPattern = "huptime-notify-*"
	// fileName is the socket's file in its directory.
	fileName = "socket"
	// maxSwept bounds how many directories of others are looked at.
	maxSwept = 64
)

// usual lists where a directory for the socket is tried to be made.
func usual() []string {
	if unix.Geteuid() != 0 {
		return []string{os.Getenv("XDG_RUNTIME_DIR"), "/run", os.TempDir()} // what it starts has the same user
	}
	var list []string
	for _, directory := range []string{"/run", os.TempDir()} {
		if open(directory) {
			list = append(list, directory)
		}
	}
	return list
}

// open tells whether users other than root get to what is in the directory. Not so where root's TMPDIR is root's alone.
func open(directory string) bool {
	for directory = filepath.Clean(directory); ; directory = filepath.Dir(directory) {
		if info, err := os.Stat(directory); err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if directory == filepath.Dir(directory) {
			return true
		}
	}
}

// bind makes the socket. Its directory is empty if its name is abstract.
func bind(directories []string) (conn *net.UnixConn, address, directory string, err error) {
	for _, parent := range directories {
		if !filepath.IsAbs(parent) {
			continue
		}
		if conn, address, directory, err = bindFile(parent); err == nil {
			sweep(parent, directory)
			return conn, address, directory, nil
		}
	}
	address = "@huptime-notify-" + rand.Text()
	conn, err = bindTo(address)
	return conn, address, "", err
}

func bindFile(parent string) (conn *net.UnixConn, address, directory string, err error) {
	if directory, err = os.MkdirTemp(parent, directoryPattern); err != nil {
		return nil, "", "", err
	}
	address = filepath.Join(directory, fileName)
	if conn, err = bindTo(address); err == nil {
		// Nobody else can write in the directory, so the names are still these files'. To send takes write permission;
		// to reach the file, search permission. The umask has a say in both unless they are set.
		if err = errors.Join(os.Chmod(address, 0o666), os.Chmod(directory, 0o711)); err == nil {
			return conn, address, directory, nil
		}
		conn.Close()
	}
	remove(directory)
	return nil, "", "", err
}

// bindTo makes a datagram socket with this name, a path or, with an @ before it, an abstract one.
func bindTo(address string) (*net.UnixConn, error) {
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// Before bind: a datagram that comes earlier would have no sender.
		if controlErr := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := listen.ListenPacket(context.Background(), "unixgram", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// remove takes a directory away, and nothing that is not this package's.
func remove(directory string) {
	_ = os.Remove(filepath.Join(directory, fileName))
	_ = os.Remove(directory)
}

// sweep removes what supervisors left that were killed: directories of this user with a socket that nobody holds any
// more. One that has no socket is left alone: somebody may be about to bind it.
func sweep(parent, own string) {
	found, _ := filepath.Glob(filepath.Join(parent, directoryPattern))
	for _, directory := range found[:min(len(found), maxSwept)] {
		var stat unix.Stat_t
		if directory == own || unix.Lstat(directory, &stat) != nil ||
			stat.Mode&unix.S_IFMT != unix.S_IFDIR || int(stat.Uid) != unix.Geteuid() {
			continue
		}
		to := &net.UnixAddr{Net: "unixgram", Name: filepath.Join(directory, fileName)}
		conn, err := net.DialUnix("unixgram", nil, to)
		if err == nil {
			conn.Close()
		} else if errors.Is(err, unix.ECONNREFUSED) {
			remove(directory)
		}
	}
}
