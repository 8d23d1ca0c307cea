package notify

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is what a shell searches where PATH is not set.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookup finds the file that a shell would execute for a command: anew at each
// launch, so that a deploy that replaces it or flips a link takes effect. A
// candidate that may not be executed is passed over, and remembered for the
// error, as execvp(3) does. Unlike os/exec it takes "." in PATH at its word:
// what the operator wrote there is the operator's.
func lookup(command string) (string, unix.Errno) {
	if strings.Contains(command, "/") {
		return command, executable(command)
	}
	path, set := os.LookupEnv("PATH")
	if !set {
		path = defaultPath
	}
	result := unix.ENOENT
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "." // Unix: an empty element is the working directory
		}
		candidate := dir + "/" + command
		errno := executable(candidate)
		if errno == 0 {
			return candidate, 0
		}
		if errno == unix.EACCES {
			result = unix.EACCES
		}
	}
	return "", result
}

// FileOf is the file that would be executed for a command just now, looked up in huptime's own PATH; "" where there is none.
func FileOf(command string) string {
	path, errno := lookup(command)
	if errno != 0 {
		return ""
	}
	return path
}

func executable(path string) unix.Errno {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err.(unix.Errno)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EACCES
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		// faccessat2 (5.8) may be denied in old containers: let execve decide.
		if errno := err.(unix.Errno); errno == unix.EACCES {
			return errno
		}
	}
	return 0
}
