package notify

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Handler decides what to reply to notified calls. It is called on one
// goroutine per listener, one call at a time, and a thread of the service waits
// meanwhile: it must not wait for anything that the service does.
type Handler interface {
	Handle(r *Request) Reply
}

// Trace is told of every notified call after it was answered.
type Trace func(r *Request, reply Reply, took time.Duration)

// Listener is the notification descriptor of one generation. It owns the
// descriptor. Close it only after Serve has returned.
type Listener struct {
	mu sync.RWMutex // held for writing to close, for reading to use fd
	fd int          // -1 once it is closed
}

// newListener takes ownership of fd.
func newListener(fd int) *Listener {
	// Makes the supervisor run on the caller's CPU as soon as it has work, and
	// back: a third less cost per call. EINVAL before Linux 6.6 is fine.
	_ = ioctlFlags(fd, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	return &Listener{fd: fd}
}

// Close gives the descriptor back.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd := l.fd
	l.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// with calls f with the descriptor. Answers that were put off may come after the generation's end: they find it closed.
func (l *Listener) with(f func(fd int) unix.Errno) unix.Errno {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.fd < 0 {
		return unix.ENOENT
	}
	return f(l.fd)
}

// Serve answers the calls of the generation until all of its processes are
// gone; then it returns nil. An error means that the listener itself failed,
// after which the generation can't run on.
//
// It keeps its own OS thread: a wake-up from poll(2) then finds the thread on
// the CPU of the call (SYNC_WAKE_UP) and not in the scheduler's hands.
func (l *Listener) Serve(h Handler, trace Trace) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer askShortSlice()()
	polled := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	var raw rawRequest
	for {
		if _, err := unix.Poll(polled, -1); err != nil {
			if err == unix.EINTR || err == unix.EAGAIN {
				continue
			}
			return fmt.Errorf("cannot wait for notified calls: %w", os.NewSyscallError("poll", err))
		}
		switch events := polled[0].Revents; {
		case events&unix.POLLIN != 0:
			// RECV only now: without a waiting call it would sleep, deaf to
			// the hangup (Linux before 6.11 does not wake it up for one).
			got, err := l.receive(&raw)
			if err != nil {
				return err
			}
			if got {
				l.answer(&raw, h, trace)
			}
		case events&unix.POLLHUP != 0:
			return nil
		default:
			return fmt.Errorf("cannot wait for notified calls: poll answered %#x", events)
		}
	}
}

// receive takes the next call off the listener. It got none where the call was gone
// before it could be received: a signal took the caller out of it.
func (l *Listener) receive(raw *rawRequest) (got bool, err error) {
	*raw = rawRequest{} // the kernel insists on a zeroed buffer
	switch errno := ioctlRecv(l.fd, raw); errno {
	case 0:
		return true, nil
	case unix.EINTR, unix.ENOENT:
		return false, nil
	default:
		return false, fmt.Errorf("cannot receive a notified call: %w", os.NewSyscallError("SECCOMP_IOCTL_NOTIF_RECV", errno))
	}
}

func (l *Listener) answer(raw *rawRequest, h Handler, trace Trace) {
	var start time.Time
	if trace != nil {
		start = time.Now()
	}
	r := Request{ID: raw.ID, TID: int(raw.PID), Number: raw.Data.Number, Arch: raw.Data.Arch, Args: raw.Data.Args, listener: l}
	r.decode()
	reply := h.Handle(&r)
	if !reply.later {
		r.Answer(reply)
	}
	if trace != nil {
		trace(&r, reply, time.Since(start))
	}
}
