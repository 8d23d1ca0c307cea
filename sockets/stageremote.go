package sockets

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/fdpass"
)

// restartSys makes the kernel issue a call anew after a stop or a signal (ERESTARTSYS, include/linux/errno.h;
// no program sees it).
const restartSys = unix.Errno(512)

// bindAnew gets a duplicate of the caller's socket where pidfd_getfd(2) is denied: the process is frozen, the
// bind answered so that it is made anew when that is over, and meanwhile the process is made to send its
// socket (Knocks.fetch). It is not ok where that was tried in vain before.
func (t *Tracker) bindAnew(b *binding) (ok bool) {
	pid, err := proc.Tgid(b.r.TID)
	if err != nil || t.isBarred(pid) {
		return false
	}
	go t.fetchCaller(b, pid) // ends by itself: a freeze is bounded
	return true
}

func (t *Tracker) isBarred(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stage.barred[pid]
}

func (t *Tracker) fetchCaller(b *binding, pid int) {
	if b.found != nil {
		defer b.found.Close()
	}
	answered := false
	err := t.fetchWhile(b.r, pid, func(tid int) {
		if tid != b.r.TID || answered {
			return
		}
		answered = true
		b.r.Answer(notify.Fail(restartSys))
	})
	if err == nil {
		return
	}
	t.log.Debug("a socket can't be copied before its bind", slog.Int("generation", t.generation),
		slog.Int("pid", pid), slog.String("error", err.Error()))
	t.mu.Lock()
	t.stage.barred[pid] = true
	t.mu.Unlock()
	if answered {
		return // it comes again
	}
	if reply := t.bind(b.r); reply != notify.Later() {
		b.r.Answer(reply)
	}
}

// fetchWhile fetches the socket at the descriptor of a notified call whose process is frozen. It is there for takeFetched
// before the process goes on: the call that is made anew would have it fetched once more, and what comes second would
// stay, a socket that listens and that nobody accepts from.
func (t *Tracker) fetchWhile(r *notify.Request, pid int, asked func(tid int)) error {
	return remote.Trace(func(tr *remote.Tracer) error {
		f, err := tr.FreezeAfter(pid, freezeLimit, asked)
		if err != nil {
			return err
		}
		defer f.Thaw()
		fd, err := t.knocks.fetchFrom(f, pid, r.FD(), fdpass.Socket)
		if err != nil {
			return err
		}
		return t.keepFetched(pid, fd)
	})
}

// keepFetched takes ownership of fd.
func (t *Tracker) keepFetched(pid, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.stage.fetched[st.Ino]; ok {
		unix.Close(old)
		t.stage.barred[pid] = true // the bind came again, and did not find it: not for ever
	}
	t.stage.fetched[st.Ino] = fd
	return nil
}

// takeFetched returns what bindAnew has got for a call; the caller owns it.
func (t *Tracker) takeFetched(r *notify.Request) (fd int, ok bool) {
	inode, is, err := proc.DescriptorSocket(r.TID, r.FD())
	if err != nil || !is || !r.Valid() {
		return -1, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fd, ok = t.stage.fetched[inode]
	delete(t.stage.fetched, inode)
	return fd, ok
}
