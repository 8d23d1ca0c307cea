package notify

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Inherited lists the descriptors above 2 that whoever started huptime left open for
// the service, and marks them close-on-exec in the supervisor: from now on
// only launchers get them. Call it before anything else opens descriptors
// without close-on-exec; nothing in huptime does.
func Inherited() ([]int, error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("cannot list the inherited descriptors: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list the inherited descriptors: %w", err)
	}
	var inherited []int
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		unix.CloseOnExec(fd)
		inherited = append(inherited, fd)
	}
	return inherited, nil
}
