package remote

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// semaphore makes one for a program to wait on (semget(2)); it would outlive all processes.
func semaphore(t *testing.T) {
	t.Helper()
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, 0, 1, 0o600) // IPC_PRIVATE
	if errno != 0 {
		t.Fatal(os.NewSyscallError("semget", errno))
	}
	t.Cleanup(func() { unix.Syscall6(unix.SYS_SEMCTL, id, 0, 0, 0, 0, 0) }) // IPC_RMID
	t.Setenv("REMOTE_TEST_SEMAPHORE", strconv.Itoa(int(id)))
}
