package notify

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

// watched is the least number of the descriptors that these tests look at: whatever the Go
// runtime of a puppet does, and its control, is below it.
const watched = 900

// recorder answers calls on watched descriptors and those about paths, and lets all others run.
type recorder struct {
	mu     sync.Mutex
	seen   []Request
	answer func(*Request) Reply
}

func (h *recorder) Handle(r *Request) Reply {
	if fd := r.FD(); fd < watched && fd != -1 && r.Call != CallSigaction && r.Call != CallUnlink && r.Call != CallRename {
		return Continue()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, *r)
	if h.answer == nil {
		return Continue()
	}
	return h.answer(r)
}

func (h *recorder) take(answer func(*Request) Reply) []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	h.seen, h.answer = nil, answer
	return seen
}

func TestServeDecodes(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	s, p := launchPuppet(t, h, nil)
	tid := p.Must(t, 1, unix.SYS_GETTID)
	address := make([]byte, 16)
	address[0] = unix.AF_INET
	fd := p.Must(t, 1, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	p.Must(t, 1, unix.SYS_DUP3, fd, watched, 0)
	action := make([]byte, 32)
	action[0] = byte(sigIgnore)
	for _, test := range []struct {
		number uintptr
		args   []any
		call   Call
		errno  unix.Errno
	}{
		{unix.SYS_BIND, []any{watched, address, 16}, CallBind, 0},
		{unix.SYS_BIND, []any{watched, address, 16}, CallBind, unix.EINVAL},
		{unix.SYS_BIND, []any{-1, address, 16}, CallBind, unix.EBADF},
		{unix.SYS_LISTEN, []any{watched, 7}, CallListen, 0},
		{unix.SYS_ACCEPT, []any{watched, 0, 0}, CallAccept, unix.EAGAIN},
		{unix.SYS_ACCEPT4, []any{watched, 0, 0, unix.SOCK_CLOEXEC}, CallAccept, unix.EAGAIN},
		{unix.SYS_RT_SIGACTION, []any{int(unix.SIGHUP), action, make([]byte, 32), 8}, CallSigaction, 0},
		{unix.SYS_RT_SIGACTION, []any{int(unix.SIGHUP), action, 0, 8}, CallSigaction, 0},
		{unix.SYS_KILL, []any{1 << 22, int(unix.SIGHUP)}, CallHangup, unix.ESRCH}, // no PID is as high
		{unix.SYS_TKILL, []any{1 << 22, int(unix.SIGHUP)}, CallHangup, unix.ESRCH},
		{unix.SYS_TGKILL, []any{1 << 22, 1 << 22, int(unix.SIGHUP)}, CallThreadHangup, unix.ESRCH},
	} {
		h.take(nil)
		if r := p.Call(t, 1, test.number, test.args...); r.Errno != test.errno {
			t.Errorf("%v: %v, want %v", test.call, r.Errno, test.errno)
		}
		seen := h.take(nil)
		if len(seen) != 1 {
			t.Errorf("%v: %v was notified", test.call, seen)
			continue
		}
		r := seen[0]
		if r.Call != test.call || r.TID != tid || r.Number != int32(test.number) || r.Compat() || r.ID == 0 {
			t.Errorf("%+v is no %v of thread %d", r, test.call, tid)
		}
		for i, arg := range test.args {
			if want, ok := arg.(int); ok && int(int32(r.Args[i])) != want {
				t.Errorf("%v: argument %d is %#x, want %d", test.call, i, r.Args[i], want)
			}
		}
	}
	// Not asked about: the filter answers, or lets it run.
	p.Call(t, 1, unix.SYS_KILL, 1<<22, int(unix.SIGWINCH))
	p.Must(t, 1, unix.SYS_RT_SIGACTION, int(unix.SIGHUP), 0, make([]byte, 32), 8)
	p.Must(t, 1, unix.SYS_RT_SIGACTION, int(unix.SIGWINCH), action, make([]byte, 32), 8)
	p.Must(t, 1, unix.SYS_GETPID)
	if seen := h.take(nil); len(seen) != 0 {
		t.Errorf("%v was notified", seen)
	}
	_ = unix.Kill(s.pid, unix.SIGKILL)
	s.hungUp(t)
}

func TestServeReplies(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	for _, test := range []struct {
		reply Reply
		value int
		errno unix.Errno
		text  string
	}{
		{Continue(), -1, unix.EBADF, "continue"},
		{Reply{}, -1, unix.EBADF, "continue"},
		{Return(0), 0, 0, "return 0"},
		{Return(1 << 20), 1 << 20, 0, "return 1048576"},
		{Fail(unix.EADDRINUSE), -1, unix.EADDRINUSE, "fail with EADDRINUSE"},
		{Fail(unix.ENOSYS), -1, unix.ENOSYS, "fail with ENOSYS"},
	} {
		h.take(func(*Request) Reply { return test.reply })
		if r := p.Call(t, 0, unix.SYS_LISTEN, -1, 1); r.Value != test.value || r.Errno != test.errno {
			t.Errorf("%v: %d, %v", test.reply, r.Value, r.Errno)
		}
		if test.reply.String() != test.text {
			t.Errorf("%q is %q", test.reply, test.text)
		}
	}
}

func TestServeTraces(t *testing.T) {
	t.Parallel()
	type line struct {
		call  Call
		reply string
		took  time.Duration
	}
	lines := make(chan line, 1000)
	h := &recorder{answer: func(*Request) Reply { return Return(3) }}
	_, p := launchPuppet(t, h, func(r *Request, reply Reply, took time.Duration) {
		if r.FD() == -1 {
			lines <- line{r.Call, reply.String(), took}
		}
	})
	p.Must(t, 0, unix.SYS_LISTEN, -1, 1)
	select {
	case l := <-lines:
		if l.call != CallListen || l.reply != "return 3" || l.took <= 0 || l.took > patience {
			t.Errorf("%+v", l)
		}
	case <-time.After(patience):
		t.Error("not traced")
	}
}

// Threads wait side by side; each gets its own answer.
func TestServeManyThreads(t *testing.T) {
	t.Parallel()
	h := &recorder{answer: func(r *Request) Reply { return Return(int64(r.Args[1])) }}
	_, p := launchPuppet(t, h, nil)
	var calls []*puppets.Pending
	for i := range 256 {
		calls = append(calls, p.Begin(t, i%32, unix.SYS_LISTEN, -1, i))
	}
	for i, call := range calls {
		if r := call.Wait(t); r.Value != i || r.Errno != 0 {
			t.Errorf("call %d returned %d, %v", i, r.Value, r.Errno)
		}
	}
}

// A caller that is killed while it waits is normal, and the others of its generation are served on.
func TestServeSurvivesKilledCaller(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	worker := p.worker(t)
	var errs []error
	pidfd, err := unix.PidfdOpen(worker.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	h.take(func(r *Request) Reply {
		if !r.Valid() {
			t.Error("invalid while its caller waits")
		}
		_ = unix.Kill(worker.PID, unix.SIGKILL)
		eventually(t, "the caller is gone", func() bool { return !r.Valid() })
		buf := make([]byte, 8)
		_, anew := r.PlantAnew(2)
		errs = []error{r.ReadMemory(r.Args[1], buf), r.WriteMemory(r.Args[1], buf), r.Plant(2, watched, false), anew}
		return Fail(unix.EIO)
	})
	worker.Begin(t, 1, unix.SYS_BIND, watched, make([]byte, 16), 16)
	polled := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(polled, int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Fatalf("the worker lives: %v", err)
		}
		break
	}
	h.take(nil)
	for i, err := range errs {
		if !errors.Is(err, ErrTargetGone) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len(errs) != 4 {
		t.Errorf("%v", errs)
	}
	if r := p.Call(t, 1, unix.SYS_LISTEN, -1, 1); r.Errno != unix.EBADF {
		t.Errorf("%v", r.Errno)
	}
}

// The end of a generation is the end of its last process, whoever that is.
func TestServeEndsWithLastProcess(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	s, p := launchPuppet(t, h, nil)
	orphan := p.worker(t)
	p.Begin(t, 0, unix.SYS_EXIT_GROUP, 5)
	s.exits(t, 5)
	h.take(func(*Request) Reply { return Return(11) })
	if r := orphan.Call(t, 0, unix.SYS_LISTEN, -1, 1); r.Value != 11 {
		t.Errorf("the orphan is not served: %d, %v", r.Value, r.Errno)
	}
	if len(s.served) != 0 {
		t.Error("Serve ended before the orphan")
	}
	orphan.Begin(t, 0, unix.SYS_EXIT_GROUP, 0)
	s.hungUp(t)
}

// A listener that fails is an error, and no endless loop.
func TestServeBadListener(t *testing.T) {
	t.Parallel()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	l := newListener(pipe[0])
	if _, err := unix.Write(pipe[1], []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := l.Serve(letRun, nil); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("%v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed twice: %v", err)
	}
}

func TestPlant(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	// In place of what is there, and where nothing is.
	p.Must(t, 0, unix.SYS_DUP3, 1, watched, 0)
	for _, at := range []int{watched, watched + 1} {
		for _, cloexec := range []bool{true, false} {
			var errPlant error
			h.take(func(r *Request) Reply {
				errPlant = r.Plant(pipe[0], at, cloexec)
				return Return(0)
			})
			r := p.Call(t, 1, unix.SYS_LISTEN, watched, 1)
			if h.take(nil); r.Errno != 0 || errPlant != nil {
				t.Fatal(r.Errno, errPlant)
			}
			if flags := p.Must(t, 2, unix.SYS_FCNTL, at, unix.F_GETFD, 0); flags&unix.FD_CLOEXEC != 0 != cloexec {
				t.Errorf("at %d: flags %d, want close-on-exec %v", at, flags, cloexec)
			}
			if _, err := unix.Write(pipe[1], []byte("hi")); err != nil {
				t.Fatal(err)
			}
			if r := p.Call(t, 2, unix.SYS_READ, at, make([]byte, 8), 8); string(r.Memory[1][:2]) != "hi" {
				t.Errorf("read %q, %v", r.Memory[1], r.Errno)
			}
		}
	}
	var anew [2]int
	var errs []error
	h.take(func(r *Request) Reply {
		for i := range anew {
			at, err := r.PlantAnew(pipe[0])
			anew[i] = at
			errs = append(errs, err)
		}
		errs = append(errs, r.Plant(-1, watched, false), r.Plant(pipe[0], 1<<30, false))
		return Return(0)
	})
	p.Must(t, 1, unix.SYS_LISTEN, watched, 1)
	h.take(nil) // for the race detector, which does not see the puppet between
	if errs[0] != nil || errs[1] != nil || anew[0] == anew[1] || slices.Min(anew[:]) < 3 {
		t.Errorf("planted anew at %d, %v", anew, errs)
	}
	for _, at := range anew {
		if flags := p.Must(t, 0, unix.SYS_FCNTL, at, unix.F_GETFD, 0); flags != unix.FD_CLOEXEC {
			t.Errorf("flags %d", flags)
		}
	}
	// No descriptor of the supervisor's; a number above the target's limit.
	for _, err := range errs[2:] {
		if !errors.Is(err, unix.EBADF) || errors.Is(err, ErrTargetGone) {
			t.Errorf("%v", err)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	const sent, written = "what the caller has", "what it gets"
	read := make([]byte, len(sent))
	var errs, bad []error
	h.take(func(r *Request) Reply {
		errs = []error{
			r.ReadMemory(r.Args[1], read), r.WriteMemory(r.Args[1], []byte(written)),
			r.ReadMemory(1, nil), r.WriteMemory(1, nil),
		}
		buf := make([]byte, len(sent))
		bad = []error{
			r.ReadMemory(1, buf), r.WriteMemory(1, buf), r.ReadMemory(^uint64(0)-3, buf), r.WriteMemory(^uint64(0)-3, buf),
			r.ReadMemory(r.Args[2]+4096-4, buf), r.WriteMemory(r.Args[2]+4096-4, buf),
		}
		return Return(0)
	})
	// Two pages of which the second is taken away: what straddles them is there in part only.
	pages := p.Must(t, 0, unix.SYS_MMAP, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON, -1, 0)
	p.Must(t, 0, unix.SYS_MUNMAP, pages+4096, 4096)
	r := p.Call(t, 0, unix.SYS_BIND, watched, []byte(sent), pages)
	h.take(nil)
	if want := written + sent[len(written):]; string(read) != sent || string(r.Memory[1]) != want {
		t.Errorf("read %q, and the caller has %q, %v", read, r.Memory[1], r.Errno)
	}
	if err := errors.Join(errs...); err != nil || len(errs) != 4 {
		t.Error(err)
	}
	for i, err := range bad {
		if !errors.Is(err, unix.EFAULT) || errors.Is(err, ErrTargetGone) {
			t.Errorf("bad address %d: %v", i, err)
		}
	}
}
