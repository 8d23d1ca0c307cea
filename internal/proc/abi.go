package proc

import "github.com/huptime/huptime/internal/abi"

// ABI tells which ABI the program of a process is made for, by its executable: /proc/PID/exe (proc_pid_exe(5)), which
// is there when the file was replaced or deleted as well. It is the ABI of what [ReadSyscall] says of the process's threads, unless
// the program runs code of two. It asks for the right to look into the process (PTRACE_MODE_READ).
func ABI(pid int) (abi.ABI, error) {
	var header [20]byte
	b, err := readStart(path(pid, "/exe"), header[:])
	if err != nil {
		return abi.Unknown, err
	}
	return abi.OfELF(b), nil
}
