package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
)

// commLength is what the kernel keeps of a name: TASK_COMM_LEN less the terminating NUL.
const commLength = 15

// Tgid returns the process (thread group id) that a thread belongs to: "Tgid:" of /proc/TID/status, proc_pid_status(5).
// The number is in the pid namespace of the mounted /proc.
func Tgid(tid int) (int, error) {
	// The line is the fourth or so; the name before it is at most 64 bytes, four each where it is escaped.
	var buf [512]byte
	name := path(tid, "/status")
	b, err := readStart(name, buf[:])
	if err != nil {
		return 0, err
	}
	tgid, err := parseTgid(b)
	if err != nil {
		return 0, cannotRead(name, err)
	}
	return tgid, nil
}

// ReadStatus returns the whole of /proc/PID/status, proc_pid_status(5); for a thread id, the thread's.
func ReadStatus(pid int) ([]byte, error) {
	var buf [4096]byte
	b, err := readAll(path(pid, "/status"), buf[:])
	if err != nil {
		return nil, err
	}
	return bytes.Clone(b), nil
}

// parseTgid finds "Tgid:" at the start of a line. A hostile name can't forge one: newlines in "Name:" are
// escaped (fs/proc/array.c, proc_task_name).
func parseTgid(b []byte) (int, error) {
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); !bytes.HasPrefix(l, []byte("Tgid:")) {
			continue
		}
		value, _ := word(l[len("Tgid:"):])
		if n, rest, ok := signed(value); ok && n > 0 && len(rest) == 0 {
			return n, nil
		}
		break
	}
	return 0, fmt.Errorf("%w: no Tgid", ErrFormat)
}

// exiting is PF_EXITING of include/linux/sched.h: set at the beginning of do_exit, before anything is given back.
const exiting = 0x4

// Stat is what is used of /proc/PID/stat, proc_pid_stat(5).
type Stat struct {
	PID       int
	Comm      string // the name as the kernel has it, at most 15 bytes for a user's process; any bytes but NUL
	State     byte   // R, S, D, T, t, Z, X, I
	PPID      int    // 0 where the parent is outside of this pid namespace
	PGRP      int
	Session   int
	Exiting   bool   // it has begun to end, and runs no code of its own any more; a zombie too
	Terminal  int    // the device number of its controlling terminal; 0 where it has none
	StartTime uint64 // after boot, in clock ticks (1/100 s). With the id, it tells a process from a later one of the same id.
}

// ReadStat reads /proc/PID/stat; for a thread id that is not a process's it works as well, and gives the thread's.
func ReadStat(pid int) (Stat, error) { return readStat(path(pid, "/stat")) }

func readStat(name string) (Stat, error) {
	// Fifty-two numbers, of which only the first twenty-two matter.
	var buf [1024]byte
	b, err := readStart(name, buf[:])
	if err != nil {
		return Stat{}, err
	}
	s, err := ParseStat(b)
	if err != nil {
		return Stat{}, cannotRead(name, err)
	}
	return s, nil
}

// ParseStat parses the content of a stat file. The name stands between the first "(" and the last ")": it
// may hold either, blanks and newlines, and nothing after it has a parenthesis.
func ParseStat(b []byte) (Stat, error) {
	bad := func(what string) (Stat, error) { return Stat{}, fmt.Errorf("%w: no %s in stat", ErrFormat, what) }
	var s Stat
	var ok bool
	var rest []byte
	if s.PID, rest, ok = signed(b); !ok || !bytes.HasPrefix(rest, []byte(" (")) {
		return bad("process id")
	}
	end := bytes.LastIndexByte(rest, ')')
	if end < 2 {
		return bad("name")
	}
	s.Comm = string(rest[2:end])
	var f []byte
	if f, rest = word(rest[end+1:]); len(f) != 1 {
		return bad("state")
	}
	s.State = f[0]
	for _, to := range []*int{&s.PPID, &s.PGRP, &s.Session, &s.Terminal} {
		f, rest = word(rest)
		n, tail, ok := signed(f)
		if !ok || len(tail) != 0 {
			return bad("parent, group, session or terminal")
		}
		*to = n
	}
	// The terminal is field 7, the flags field 9, the start time field 22.
	for field := 8; field <= 22; field++ {
		if f, rest = word(rest); field == 9 {
			flags, tail, ok := decimal(f)
			if !ok || len(tail) != 0 {
				return bad("flags")
			}
			s.Exiting = flags&exiting != 0
		}
	}
	n, tail, ok := decimal(f)
	if !ok || len(tail) != 0 {
		return bad("start time")
	}
	s.StartTime = n
	return s, nil
}

// Processes lists the processes (thread group ids) that /proc shows, ascending. Under hidepid= only one's own.
func Processes() ([]int, error) {
	ids, err := directory("/proc")
	slices.Sort(ids)
	return ids, err
}

// Threads lists the thread ids of a process, ascending: /proc/PID/task, proc_pid_task(5). A thread that is made while
// the list is read may be missing from it: who needs all of them reads until nothing new appears.
func Threads(pid int) ([]int, error) {
	ids, err := directory(path(pid, "/task"))
	slices.Sort(ids)
	if err == nil && len(ids) == 0 {
		// The process ended after the directory was opened; every process has a thread.
		return nil, cannotRead(path(pid, "/task"), os.ErrNotExist)
	}
	return ids, err
}

// ThreadState returns the state letter of one thread: the third field of /proc/PID/task/TID/stat.
func ThreadState(pid, tid int) (byte, error) {
	s, err := readStat(threadPath(pid, tid, "/stat"))
	return s.State, err
}

// SetComm names the calling process (its main thread, which is what ps and killall look at) and cuts the name
// to the 15 bytes that the kernel keeps. Source: proc_pid_comm(5); comm_write in fs/proc/base.c lets any thread
// of a process name any other, so the calling thread does not matter.
func SetComm(name string) error {
	if len(name) > commLength {
		name = name[:commLength]
	}
	if name == "" {
		// A write of no bytes would leave the old name and report success.
		return errors.New("cannot set the process name: it is empty")
	}
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		return fmt.Errorf("cannot set the process name: %w", err)
	}
	return nil
}

// CheckMounted tells whether /proc is that of the calling process's own pid namespace: every other one has other
// numbers for the same processes, or none. The error says what to do.
func CheckMounted() error {
	const mount = "mount it (mount -t proc proc /proc)"
	self, err := os.Readlink("/proc/self")
	if err != nil {
		if _, other := os.Stat("/proc/stat"); other == nil {
			return fmt.Errorf("/proc is of another PID namespace, which does not have this process: %s", mount)
		}
		return fmt.Errorf("cannot read /proc: %w: %s", err, mount)
	}
	if pid := os.Getpid(); self != strconv.Itoa(pid) {
		return fmt.Errorf("/proc is of another PID namespace: there this process is %s, and here %d: %s",
			self, pid, mount)
	}
	return nil
}

// ReadComm returns a process's name: /proc/PID/comm, proc_pid_comm(5), less the newline that ends it.
func ReadComm(pid int) (string, error) {
	var buf [128]byte
	b, err := readStart(path(pid, "/comm"), buf[:])
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(b, []byte("\n"))), nil
}
