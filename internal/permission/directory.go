package permission

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The bits of a mode, for one of the three classes.
const (
	execute = 1
	write   = 2
)

// Search tells whether a name may be looked up in a directory, which is open at dir, with O_PATH at least: nil, or EACCES.
func (c *Credentials) Search(dir int) error {
	_, err := c.directory(dir, execute)
	return err
}

// Create tells whether a name may be made in a directory: nil, or EACCES (may_create in fs/namei.c).
func (c *Credentials) Create(dir int) error {
	_, err := c.directory(dir, execute|write)
	return err
}

// Remove tells whether a name may be taken out of a directory: nil, EACCES, or EPERM where the directory is a sticky one and the thread's
// user owns neither it nor what the name is (may_delete in fs/namei.c). A name that is not there is no other user's.
func (c *Credentials) Remove(dir int, name string) error {
	st, err := c.directory(dir, execute|write)
	if err != nil || st.Mode&unix.S_ISVTX == 0 || st.Uid == c.UID {
		return err
	}
	var victim unix.Stat_t
	switch err := unix.Fstatat(dir, name, &victim, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return os.NewSyscallError("fstatat", err)
	case victim.Uid == c.UID || c.over(&victim, unix.CAP_FOWNER):
		return nil
	}
	return unix.EPERM
}

// directory is generic_permission of fs/namei.c for a directory.
func (c *Credentials) directory(fd int, want uint32) (st unix.Stat_t, err error) {
	if err := unix.Fstat(fd, &st); err != nil {
		return st, os.NewSyscallError("fstat", err)
	}
	if c.byMode(fd, &st, want) || want&write == 0 && c.over(&st, unix.CAP_DAC_READ_SEARCH) || c.over(&st, unix.CAP_DAC_OVERRIDE) {
		return st, nil
	}
	return st, unix.EACCES
}

// byMode is acl_permission_check of fs/namei.c: one class decides, and the others say nothing.
func (c *Credentials) byMode(fd int, st *unix.Stat_t, want uint32) bool {
	mode := st.Mode
	switch {
	case st.Uid == c.UID:
		mode >>= 6
	default:
		// With an access list the group's bits are its mask: without any of them nobody is let in by it (fs/namei.c).
		if mode&0o070 != 0 {
			if allowed, there := c.byList(readList(fd), st, want); there {
				return allowed
			}
		}
		if c.in(st.Gid) {
			mode >>= 3
		}
	}
	return want&^mode == 0
}

// Tags of the entries of an access list (include/uapi/linux/posix_acl.h).
const (
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

// entry is one of an access list.
type entry struct {
	tag, allows uint16
	id          uint32
}

// readList reads the access list of an open directory (acl(5)); nil where it has none, or the file system knows none.
func readList(fd int) []entry {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "system.posix_acl_access", buf)
	if err == unix.ERANGE {
		buf = make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err = unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "system.posix_acl_access", buf)
	}
	if err != nil {
		return nil
	}
	return parseList(buf[:n])
}

// parseList reads include/uapi/linux/posix_acl_xattr.h: a version in four bytes, and entries of eight, all little endian.
func parseList(b []byte) []entry {
	const header, size, version = 4, 8, 2
	if len(b) < header || binary.LittleEndian.Uint32(b) != version {
		return nil
	}
	var list []entry
	for b = b[header:]; len(b) >= size; b = b[size:] {
		list = append(list, entry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])})
	}
	return list
}

// byList is posix_acl_permission of fs/posix_acl.c, for a user who is not the owner. It is not there where there is no list.
func (c *Credentials) byList(list []entry, st *unix.Stat_t, want uint32) (allowed, there bool) {
	if len(list) == 0 {
		return false, false
	}
	mask := uint16(7)
	for _, e := range list {
		if e.tag == tagMask {
			mask = e.allows
		}
	}
	member := false
	for _, e := range list {
		switch {
		case e.tag == tagUser && e.id == c.UID:
			return uint16(want)&^(e.allows&mask) == 0, true
		case e.tag == tagGroupObj && c.in(st.Gid), e.tag == tagGroup && c.in(e.id):
			member = true
			if uint16(want)&^e.allows == 0 {
				return uint16(want)&^mask == 0, true
			}
		case e.tag == tagOther:
			return !member && uint16(want)&^e.allows == 0, true
		}
	}
	return false, true
}
