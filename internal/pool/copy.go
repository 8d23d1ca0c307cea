package pool

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/activation"
)

// copyName is argv[0] of a copy until it is the service. It is told its own PID by LISTEN_PID, which only it can know before
// the service's code runs.
const copyName = "huptime copy"

// throughCopy is the command of a copy that becomes the service by itself.
func throughCopy(path string, command []string) (string, []string) {
	return "/proc/self/exe", append([]string{copyName, path}, command...)
}

// IsCopy tells whether this process was started to become a copy of the service.
func IsCopy(args []string) bool { return len(args) > 2 && args[0] == copyName }

// RunCopy becomes the service, which is handed the descriptors that the master was: each copy has all of them. It returns only where that
// failed, with the exit status.
func RunCopy(args []string) int {
	activation.HandOn(strings.Split(os.Getenv("LISTEN_FDNAMES"), ":"))
	err := unix.Exec(args[1], args[2:], os.Environ())
	fmt.Fprintf(os.Stderr, "huptime: cannot execute %s: %v\n", args[1], err)
	return 126
}
