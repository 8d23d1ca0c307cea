package permission

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// Credentials are those of a thread that permissions are decided by, with ids as the supervisor's user namespace has them.
type Credentials struct {
	UID, GID  uint32 // the file system's, which are the effective ones but for setfsuid(2)
	Effective uint32 // the effective user id
	Groups    []uint32
	Caps      uint64 // effective capabilities, in its own user namespace

	space namespace // its user namespace; zero where that may not be looked at
	// ids are the ranges of ids that are mapped there; nil where it is the supervisor's own, which has all.
	uids, gids []idRange
}

// namespace identifies one (namespaces(7)).
type namespace struct{ dev, ino uint64 }

// idRange are ids of the supervisor's user namespace.
type idRange struct{ first, count uint32 }

// Of reads a thread's credentials: /proc/TID/status, which anybody may read, and its user namespace. Where that may not be looked at it is
// taken for the supervisor's own. The thread may be gone meanwhile, and its id another's: whoever acts on the result checks that first.
func Of(tid int) (Credentials, error) {
	status, err := proc.ReadStatus(tid)
	if err != nil {
		return Credentials{}, err
	}
	c, err := parseStatus(status)
	if err != nil {
		return Credentials{}, fmt.Errorf("cannot tell the credentials of thread %d: %w", tid, err)
	}
	dir := "/proc/" + strconv.Itoa(tid)
	own, err := namespaceOf("/proc/self/ns/user")
	if err != nil {
		return Credentials{}, err
	}
	if c.space, err = namespaceOf(dir + "/ns/user"); err != nil || c.space == own {
		c.space = own
		return c, nil
	}
	if c.uids, err = readMap(dir + "/uid_map"); err != nil {
		return Credentials{}, err
	}
	if c.gids, err = readMap(dir + "/gid_map"); err != nil {
		return Credentials{}, err
	}
	return c, nil
}

func namespaceOf(file string) (namespace, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return namespace{}, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	return namespace{uint64(st.Dev), st.Ino}, nil
}

// parseStatus reads "Uid:" and "Gid:" (real, effective, saved, file system), "Groups:" and "CapEff:" (proc_pid_status(5)). A hostile
// name can't forge a line: newlines in "Name:" are escaped.
func parseStatus(status []byte) (Credentials, error) {
	var c Credentials
	found := make(map[string]struct{})
	for line := range bytes.Lines(status) {
		key, rest, _ := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(rest)
		var ids []uint32
		switch string(key) {
		case "Uid", "Gid", "Groups":
			for _, f := range fields {
				n, err := strconv.ParseUint(string(f), 10, 32)
				if err != nil {
					return c, fmt.Errorf("%w: %q", proc.ErrFormat, line)
				}
				ids = append(ids, uint32(n))
			}
		}
		switch key := string(key); {
		case key == "Uid" && len(ids) == 4:
			c.Effective, c.UID = ids[1], ids[3]
			found[key] = struct{}{}
		case key == "Gid" && len(ids) == 4:
			c.GID = ids[3]
			found[key] = struct{}{}
		case key == "Groups":
			c.Groups = ids
			found[key] = struct{}{}
		case key == "CapEff" && len(fields) == 1:
			n, err := strconv.ParseUint(string(fields[0]), 16, 64)
			if err != nil {
				return c, fmt.Errorf("%w: %q", proc.ErrFormat, line)
			}
			c.Caps = n
			found[key] = struct{}{}
		}
	}
	if len(found) != 4 {
		return c, fmt.Errorf("%w: ids or capabilities are missing", proc.ErrFormat)
	}
	return c, nil
}

// readMap reads uid_map or gid_map (user_namespaces(7)): the first id inside, the first outside as the reader's namespace has it, and how many.
func readMap(file string) ([]idRange, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := parseMap(b)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, file)
	}
	return list, nil
}

// parseMap never returns nil without an error: that would be all ids.
func parseMap(b []byte) ([]idRange, error) {
	list := []idRange{}
	for line := range bytes.Lines(b) {
		var inside, outside, count uint32
		if _, err := fmt.Sscan(string(line), &inside, &outside, &count); err != nil {
			return nil, fmt.Errorf("%w: %q", proc.ErrFormat, line)
		}
		list = append(list, idRange{outside, count})
	}
	return list, nil
}

func mapped(list []idRange, id uint32) bool {
	return list == nil || slices.ContainsFunc(list, func(r idRange) bool { return id >= r.first && id-r.first < r.count })
}

// has tells whether a capability is effective.
func (c *Credentials) has(capability int) bool { return c.Caps&(1<<capability) != 0 }

// over tells whether a capability counts for a file (capable_wrt_inode_uidgid in kernel/capability.c): its owner and group must be
// known in the thread's user namespace.
func (c *Credentials) over(st *unix.Stat_t, capability int) bool {
	return c.has(capability) && mapped(c.uids, st.Uid) && mapped(c.gids, st.Gid)
}

// in tells whether a group is among the thread's (in_group_p in kernel/groups.c).
func (c *Credentials) in(group uint32) bool {
	return c.GID == group || slices.Contains(c.Groups, group)
}
