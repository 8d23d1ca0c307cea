package sockets

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errNoDirectory: a unix socket can't listen without a name (unix_listen in net/unix/af_unix.c), and there is no
// directory to give it one in. An abstract name is none to hide behind: /proc/net/unix lists it, and whoever is in the
// network namespace may connect to it.
var errNoDirectory = errors.New("there is no directory to make a unix socket in")

// hidingPlaces are the directories where a placeholder gets its name, the likeliest first: those in memory, and then $TMPDIR.
// Containers with a read-only root have a /dev/shm.
func hidingPlaces() []string { return []string{"/dev/shm", "/run", os.TempDir(), "/tmp", "/var/tmp"} }

// hide makes the unix socket listen under a name that is gone. Nobody else can come to it from the first moment: the
// name is in a directory that only the supervisor's user may enter, and when the socket begins to listen the name is
// unlinked. The supervisor alone still has the file, open, and reaches the socket by that.
func (d *placeholder) hide() error {
	failed := errNoDirectory
	for _, dir := range hidingPlaces() {
		file, err := bindHidden(d.fd, dir)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", dir, err))
			continue
		}
		d.file = file
		return os.NewSyscallError("listen", unix.Listen(d.fd, unix.SOMAXCONN))
	}
	return failed
}

// bindHidden binds the unix socket in a new directory in dir, and removes both. It returns the file, opened with
// O_PATH; it is the caller's.
func bindHidden(fd int, dir string) (file int, err error) {
	own, err := os.MkdirTemp(dir, ".huptime-") // mode 0700
	if err != nil {
		return -1, err
	}
	defer os.Remove(own)
	// From here on by its descriptor: where dir is not sticky, others may rename what is in it.
	at, err := unix.Open(own, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open", err)
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return -1, os.NewSyscallError("fstat", err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return -1, fmt.Errorf("%s is not the supervisor's alone", own)
	}
	// The program may ask for the name, and even remove it: it must be nobody else's from there.
	name := placeholderName + rand.Text()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", at, name)}); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	defer unix.Unlinkat(at, name, 0)
	file, err = unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return file, os.NewSyscallError("openat", err)
}

// placeholderName begins the names that placeholders had while they were bound. getsockname(2) still tells them.
const placeholderName = "huptime-placeholder-"

// enter connects a client of the supervisor's.
func (d *placeholder) enter(client int) error {
	to := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", d.file)}
	return os.NewSyscallError("connect", unix.Connect(client, to))
}
