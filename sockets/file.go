package sockets

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// A unix socket with a path has a file, which is what clients find it by. The file of a preserved socket must stay: a
// socket can't be given another one (unix(7)), and what has no name any more can't be linked again.

// socketFile is the file of a unix socket. It owns the descriptor of the directory.
type socketFile struct {
	found    *paths.Found // where it is now
	dev, ino uint64
}

// there tells whether the file is still in its directory. The service may have renamed it; somebody else may have taken it away or put
// another in its place.
func (f *socketFile) there() bool {
	return f.is(f.found) || f.found.Search(uint32(f.ino)) == nil && f.is(f.found)
}

// is tells whether the file is at a place.
func (f *socketFile) is(at *paths.Found) bool {
	st, err := at.Stat()
	return err == nil && uint64(st.Dev) == f.dev && st.Ino == f.ino
}

var (
	errNoFile = errors.New("its file is gone, or another is in its place")
	// errUnlocated: a unix socket that can't be preserved, because it is not known what it stands for.
	errUnlocated = errors.New("cannot tell what a unix socket stands for")
)

// boundName is what a unix socket was asked to be bound to. It owns the descriptor of the directory.
type boundName struct {
	address sockaddr.Address
	found   *paths.Found // nil for an abstract name, and where the path can't be looked at
}

func (b boundName) close() {
	if b.found != nil {
		b.found.Close()
	}
}

// maxBound bounds the record of bound unix sockets: clients bind names too, and never listen.
const maxBound = 128

// binds notes what a unix socket is about to be bound to: a relative path means nothing any more once the service has changed
// its directory. It takes ownership of b. Whether the bind succeeds is seen when the socket is collected.
func (t *Tracker) binds(inode uint64, b boundName) {
	if t.noteName(inode, b) {
		t.sweepBound()
	}
}

// noteName notes it and tells whether those that are noted should be looked through.
func (t *Tracker) noteName(inode uint64, b boundName) (sweep bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was, ok := t.bound[inode]; ok {
		was.close()
	}
	t.bound[inode] = b
	if len(t.bound) <= maxBound {
		return false
	}
	for other, was := range t.bound {
		if _, listens := t.listening[other]; !listens && other != inode {
			was.close()
			delete(t.bound, other)
		}
	}
	if len(t.bound) <= t.sweepBoundAt {
		return false
	}
	t.sweepBoundAt = math.MaxInt // one at a time
	return true
}

// sweepBound forgets what unix sockets were bound to that are there no more: a program may make one after the other,
// listen and close, and the directory of each is held open. Those of other network namespaces are forgotten too; they
// are not preserved.
//
// The caller waits in its bind meanwhile, some 10 µs for each that is noted, or one that is quick would be ahead of it
// for ever.
func (t *Tracker) sweepBound() {
	gone := make(map[uint64]bool)
	t.mu.Lock()
	for inode, b := range t.bound {
		if b.address.Family == unix.AF_UNIX {
			gone[inode] = false
		}
	}
	t.mu.Unlock()
	if diag, err := sockdiag.Open(); err == nil {
		for inode := range gone {
			_, err := diag.UnixSocketOf(inode)
			gone[inode] = errors.Is(err, os.ErrNotExist)
		}
		diag.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for inode, is := range gone {
		if b, ok := t.bound[inode]; ok && is {
			b.close()
			delete(t.bound, inode)
		}
	}
	t.sweepBoundAt = max(maxBound, 2*len(t.bound))
}

// placeOf finds the place of a unix address that a caller binds; nil for an abstract name. The caller closes it.
func placeOf(r *notify.Request, a sockaddr.Address) (*paths.Found, error) {
	if !a.IsPath() {
		return nil, nil
	}
	found, err := paths.OfThread(r.TID, unix.AT_FDCWD, a.Name)
	if err != nil {
		return nil, err
	}
	if !r.Valid() {
		found.Close()
		return nil, notify.ErrTargetGone
	}
	return found, nil
}

// locate fills in what a unix socket stands for, and where its file is. pid has the socket. The error matches errUnlocated where
// that can't be told, and ErrNotPreservable where nobody will ask for it again.
func (t *Tracker) locate(s *Socket, pid int) error {
	diag, err := sockdiag.Open()
	if err != nil {
		return err
	}
	defer diag.Close()
	info, err := diag.UnixSocketOf(s.Inode)
	if err != nil && s.foreign {
		info, err = nameOf(s) // sock_diag does not show it
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnlocated, err)
	}
	t.mu.Lock()
	asked, known := t.bound[s.Inode]
	var found *paths.Found
	if known && asked.found != nil {
		found, err = asked.found.Clone()
	}
	t.mu.Unlock()
	if err != nil {
		return err
	}
	s.Path = info.Name
	address := sockaddr.Address{Family: unix.AF_UNIX, Name: info.Name}
	if info.Name == "" || known && asked.address.Name == "" {
		return sockaddr.ErrNotPreservable // its name was the kernel's choice, and is another at the next bind
	}
	s.Key = s.Key.At(address)
	if !address.IsPath() {
		return nil
	}
	if found == nil && info.Name[0] == '/' {
		found, err = paths.OfThread(pid, unix.AT_FDCWD, info.Name)
	}
	if found == nil {
		return fmt.Errorf("%w: the directory of %s is not known: %w", errUnlocated, s, errors.Join(err, errNoFile))
	}
	s.Key.Place = found.Place
	if s.foreign && info.File == 0 {
		// What is at the path is taken to be the socket's: nobody else says so.
		if st, err := found.Stat(); err == nil {
			info.File = uint32(st.Ino)
		}
	}
	if s.file, err = fileOf(found, info.File); err != nil {
		found.Close()
		return fmt.Errorf("%w: %s: %w", errUnlocated, s, err)
	}
	return nil
}

// fileOf finds the file of the socket, which has this inode number, at the place where it was bound, or under another name in
// the same directory: programs that replace a socket in one step bind another name and rename it. It takes ownership of found
// where it returns no error.
func fileOf(found *paths.Found, inode uint32) (*socketFile, error) {
	st, err := found.Stat()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK || uint32(st.Ino) != inode {
		if err := found.Search(inode); err != nil {
			return nil, err
		}
		if st, err = found.Stat(); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return nil, fmt.Errorf("%w: %q", errNoFile, found.Name)
		}
	}
	return &socketFile{found: found, dev: uint64(st.Dev), ino: st.Ino}, nil
}
