package sdnotify

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxDatagram is the longest that is read, in bytes: systemd's NOTIFY_BUFFER_MAX (core/manager.c) is 4096 too.
	maxDatagram = 4096
	// maxDescriptors is how many one datagram can bring: the kernel's SCM_MAX_FD.
	maxDescriptors = 253
)

// received is a message with its barrier's descriptor, if it is one. Who has it closes that.
type received struct {
	Message
	barrier []int
}

func (r received) close() { closeAll(r.barrier) }

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// read is the reader's goroutine. It ends when the socket is closed, or can't be read any more.
func (s *Socket) read() {
	defer close(s.received)
	text := make([]byte, maxDatagram)
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxDescriptors))
	for {
		if !s.pause(s.limit.take(time.Now())) {
			return
		}
		n, m, flags, _, err := s.conn.ReadMsgUnix(text, control)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.failed = err
			}
			return
		}
		r, ok := s.accept(text[:n], control[:m], flags)
		if !ok {
			continue
		}
		select {
		case s.received <- r:
		case <-s.done:
			r.close()
			return
		}
	}
}

// pause waits; it returns false if the socket is closed meanwhile.
func (s *Socket) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}

// accept looks at a datagram. All descriptors that came with it are closed, but for a barrier's, which goes with the
// message: that is one, so that those that wait can't be many.
func (s *Socket) accept(text, control []byte, flags int) (r received, ok bool) {
	pid, fds := unpack(control)
	defer func() {
		if !ok || !r.Barrier {
			closeAll(fds)
		}
	}()
	switch {
	case flags&unix.MSG_TRUNC != 0:
		s.drop("it is too long", pid)
		return r, false
	case pid <= 0 || s.member != nil && !s.member(pid):
		s.drop("it is from a process that is not of this generation", pid)
		return r, false
	}
	m, err := Parse(text)
	if err != nil {
		s.drop(err.Error(), pid)
		return r, false
	}
	m.PID = pid
	m.Barrier = m.Barrier && len(fds) == 1
	r.Message = m
	if m.Barrier {
		r.barrier = fds
	}
	return r, m.Barrier || m.says()
}

// drop logs the first datagram that was dropped; a line for each would be a flood of its own.
func (s *Socket) drop(why string, pid int) {
	if !s.dropped {
		s.dropped = true
		s.log.Warn("dropped what came to "+Variable+"; others are dropped silently", "why", why, "pid", pid)
	}
}

// unpack reads the control messages: who sent it, and what descriptors came with it.
func unpack(control []byte) (pid int, fds []int) {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, nil
	}
	for i := range list {
		if list[i].Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch list[i].Header.Type {
		case unix.SCM_CREDENTIALS:
			if sender, err := unix.ParseUnixCredentials(&list[i]); err == nil {
				pid = int(sender.Pid)
			}
		case unix.SCM_RIGHTS:
			if len(list[i].Data)%4 != 0 {
				continue // x/sys panics on half a descriptor, which the kernel never sends
			}
			if passed, err := unix.ParseUnixRights(&list[i]); err == nil {
				fds = append(fds, passed...)
			}
		}
	}
	return pid, fds
}
