package sockets

import "golang.org/x/sys/unix"

// copy duplicates the supervisor's own duplicate, if it is still there. The caller owns what it returns.
func (s *Socket) copy() (fd int, ok bool) {
	s.release.Lock()
	defer s.release.Unlock()
	if s.fd < 0 {
		return -1, false
	}
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, err == nil
}
