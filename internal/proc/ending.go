package proc

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ending tells whether the process, or the thread, whose file this is has begun to end, so that it will do nothing any
// more. From the moment in which it has given its memory back until it was waited for, its files are root's
// (task_dump_owner in fs/proc/base.c): a user who may look into it as long as it lives has EACCES then. Of a process all
// threads must end: where the first has ended by itself, the others live on.
func ending(name string) bool {
	name, ok := strings.CutPrefix(name, "/proc/")
	if !ok {
		return false
	}
	parts := strings.SplitN(name, "/", 4)
	pid, err := strconv.Atoi(parts[0])
	if err != nil {
		return false
	}
	if len(parts) == 4 && parts[1] == "task" {
		tid, err := strconv.Atoi(parts[2])
		return err == nil && threadEnds(pid, tid)
	}
	tids, err := Threads(pid)
	if err != nil {
		// It was ending when the file was denied, and is gone by now.
		return errors.Is(err, os.ErrNotExist)
	}
	for _, tid := range tids {
		if !threadEnds(pid, tid) {
			return false
		}
	}
	return true
}

// threadEnds reports true for one that is gone, and false where it can't be read. It does not use readStart, whose errors ask this.
func threadEnds(pid, tid int) bool {
	fd, err := open(threadPath(pid, tid, "/stat"), 0)
	if err != nil {
		return err == unix.ENOENT // it has ended
	}
	defer unix.Close(fd)
	var buf [1024]byte
	n, err := read(fd, buf[:])
	if err != nil {
		return err == unix.ESRCH
	}
	s, err := ParseStat(buf[:n])
	return err == nil && s.Exiting
}
