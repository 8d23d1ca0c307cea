package sdnotify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limit is how long to wait for what must happen.
const limit = 10 * time.Second

// abstract and plenty are the arguments of listen that most tests use.
var (
	abstract = []string{}
	plenty   = limiter{burst: 1 << 20, interval: time.Millisecond}
)

func start(t *testing.T, o Options, directories []string, l limiter) *Socket {
	t.Helper()
	s, err := listen(o, directories, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// take takes the next message.
func take(t *testing.T, s *Socket) Message {
	t.Helper()
	select {
	case m, ok := <-s.Messages():
		if !ok {
			t.Fatalf("there are no more messages: %v", s.Err())
		}
		return m
	case <-time.After(limit):
		t.Fatal("no message")
	}
	panic("not reached")
}

func say(t *testing.T, s *Socket, assignments ...string) {
	t.Helper()
	if err := Send(s.Address(), assignments...); err != nil {
		t.Fatal(err)
	}
}

// shout sends without waiting, with descriptors if there are any.
func shout(t *testing.T, s *Socket, text string, fds ...int) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: s.Address()}, unix.MSG_DONTWAIT)
}

// eof waits until nobody has the other end of a pipe any more.
func eof(t *testing.T, r *os.File) {
	t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(limit))
	if n, err := r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the descriptor is still open: %v", err)
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

func TestMessages(t *testing.T) {
	for name, directories := range map[string][]string{
		"file":      {t.TempDir()},
		"abstract":  abstract,
		"read-only": {"relative", "", filepath.Join(t.TempDir(), "missing"), "/proc"},
		"too long":  {long(t)},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{}, directories, plenty)
			if file := s.Address()[0] == '/'; file != (name == "file") {
				t.Errorf("its name is %s", s.Address())
			}
			if s.Env() != "NOTIFY_SOCKET="+s.Address() {
				t.Errorf("the variable is %s", s.Env())
			}
			say(t, s, "READY=1", "STATUS=serving")
			say(t, s, "WATCHDOG=1")
			say(t, s, "STOPPING=1")
			for _, want := range []Message{
				{PID: os.Getpid(), Ready: true, Status: "serving", HasStatus: true},
				{PID: os.Getpid(), Stopping: true},
			} {
				if m := take(t, s); m != want {
					t.Errorf("%+v; want %+v", m, want)
				}
			}
			address := s.Address()
			s.Close()
			if _, ok := <-s.Messages(); ok || s.Err() != nil {
				t.Errorf("after Close there is a message, or an error: %v", s.Err())
			}
			if err := Send(address, "READY=1"); err == nil {
				t.Error("sent to a socket that is closed")
			}
			for _, directory := range directories {
				if left, _ := filepath.Glob(filepath.Join(directory, directoryPattern)); len(left) != 0 {
					t.Errorf("left behind: %q", left)
				}
			}
		})
	}
}

// long is a directory whose files' names are too long for a socket.
func long(t *testing.T) string {
	directory := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	return directory
}

// TestUsualPlace: where it is without being told, a socket can be written to by a service that has changed its user.
func TestUsualPlace(t *testing.T) {
	old := unix.Umask(0o077)
	s, err := Listen(Options{})
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Logf("its name is %s", s.Address())
	if unix.Geteuid() != 0 {
		t.Skip("only root can change its user")
	}
	sent := make(chan error, 1)
	go func() { // ends when it has sent, and its thread with it
		runtime.LockOSThread() // never unlocked: the thread's user is nobody
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			sent <- errno
			return
		}
		sent <- Send(s.Address(), "READY=1")
	}()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if m := take(t, s); !m.Ready || m.PID != os.Getpid() {
		t.Errorf("%+v", m)
	}
}

func TestOpenDirectories(t *testing.T) {
	if !open("/") || !open("/proc") || open("/nowhere") || open(filepath.Dir(t.TempDir())+"/none") {
		t.Error("/ and /proc are open to all, and what is not there to nobody")
	}
	closed := filepath.Join(t.TempDir(), "closed", "open")
	if err := os.MkdirAll(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(closed), 0o700); err != nil {
		t.Fatal(err)
	}
	if open(closed) {
		t.Error("nobody else gets through a directory of mode 0700")
	}
}

func TestOthersAreDropped(t *testing.T) {
	var log bytes.Buffer
	var lock sync.Mutex
	var asked []int
	member := func(pid int) bool {
		lock.Lock()
		defer lock.Unlock()
		asked = append(asked, pid)
		return len(asked) > 2
	}
	s := start(t, Options{Member: member, Log: slog.New(slog.NewTextHandler(&log, nil))}, abstract, plenty)
	r, w := pipe(t)
	if err := shout(t, s, "BARRIER=1", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	say(t, s, "READY=1", "STATUS=from elsewhere")
	say(t, s, "READY=1", "STATUS=from inside")
	if m := take(t, s); m.Status != "from inside" {
		t.Errorf("%+v", m)
	}
	eof(t, r)
	s.Close()
	for _, pid := range asked {
		if pid != os.Getpid() {
			t.Errorf("asked about process %d", pid)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "not of this generation") {
		t.Errorf("%d lines were logged, not one: %s", n, log.String())
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	s := start(t, Options{}, abstract, plenty)
	tooLong := "READY=1\n" + strings.Repeat("x", maxDatagram)
	for _, text := range []string{"", "\x00", "READY=1\x00READY=1", "READY", "\xff\xfe", tooLong} {
		if err := shout(t, s, text); err != nil {
			t.Fatal(err)
		}
	}
	longest := "STATUS=longest\n" + strings.Repeat("x", maxDatagram)
	if err := shout(t, s, longest[:maxDatagram]); err != nil {
		t.Fatal(err)
	}
	if m := take(t, s); m.Status != "longest" || m.Ready {
		t.Errorf("%+v", m)
	}
}

func TestDescriptorsAreClosed(t *testing.T) {
	s := start(t, Options{}, abstract, plenty)
	r, w := pipe(t)
	fds := make([]int, maxDescriptors)
	for i := range fds {
		fds[i] = int(w.Fd())
	}
	// Those of a datagram that is too long, of one without a message, of a barrier with too many, of one with a
	// message.
	for _, text := range []string{strings.Repeat("x", maxDatagram+1), "FDSTORE=1", "BARRIER=1", "READY=1"} {
		if err := shout(t, s, text, fds...); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	if m := take(t, s); m != (Message{PID: os.Getpid(), Ready: true}) {
		t.Errorf("%+v", m)
	}
	eof(t, r)
}

func TestBarrier(t *testing.T) {
	s := start(t, Options{}, abstract, plenty)
	r, w := pipe(t)
	say(t, s, "READY=1")
	if err := shout(t, s, "BARRIER=1", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if m := take(t, s); m != (Message{PID: os.Getpid(), Ready: true}) {
		t.Errorf("%+v", m)
	}
	eof(t, r)

	// With a message in it, it goes when that has been taken.
	r, w = pipe(t)
	if err := shout(t, s, "STATUS=x\nBARRIER=1", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if m := take(t, s); m != (Message{PID: os.Getpid(), Barrier: true, Status: "x", HasStatus: true}) {
		t.Errorf("%+v", m)
	}
	eof(t, r)

	// And Close lets those go that wait.
	r, w = pipe(t)
	say(t, s, "READY=1")
	if err := shout(t, s, "BARRIER=1", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s.Close()
	eof(t, r)
}

func TestWaiting(t *testing.T) {
	status := func(pid int, text string) received {
		return received{Message: Message{PID: pid, Status: text, HasStatus: true}}
	}
	r, w := pipe(t)
	held, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var queue waiting
	for _, next := range []received{
		status(1, "a"), status(1, "b"), status(2, "c"),
		{Message: Message{PID: 2, Ready: true, Status: "d", HasStatus: true}},
		status(2, "e"),
		{Message: Message{Barrier: true}, barrier: []int{held}},
		status(2, "f"), status(2, "g"),
	} {
		queue = queue.add(next).release()
	}
	var got []string
	for len(queue) > 0 {
		got = append(got, queue[0].Status)
		_ = r.SetReadDeadline(time.Unix(1, 0)) // over: a look
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the barrier went before %q was taken: %v", queue[0].Status, err)
		}
		if queue[0].Status == "e" {
			queue = queue[1:].release()
			eof(t, r)
			break
		}
		queue = queue[1:].release()
	}
	for _, rest := range queue {
		got = append(got, rest.Status)
	}
	if fmt.Sprint(got) != "[b c d e g]" {
		t.Errorf("in the queue were %v", got)
	}
}

// TestFloodOfStatuses: they are read although nobody takes them, and the last one is what is taken.
func TestFloodOfStatuses(t *testing.T) {
	s := start(t, Options{}, abstract, plenty)
	const n = 2000
	for i := range n {
		say(t, s, fmt.Sprintf("STATUS=%d", i))
	}
	say(t, s, "READY=1")
	var last Message
	taken := 0
	for !last.Ready {
		m := take(t, s)
		if m.HasStatus {
			last.Status = m.Status
		}
		last.Ready = m.Ready
		taken++
	}
	if last.Status != fmt.Sprint(n-1) || taken > maxWaiting {
		t.Errorf("the last status of %d messages was %q", taken, last.Status)
	}
}

// flood sends until the kernel's queue stays full, and returns how many datagrams found room.
func flood(t *testing.T, s *Socket, text string) int {
	t.Helper()
	full := time.Time{}
	for n := 0; ; {
		switch err := shout(t, s, text); {
		case err == nil:
			n++
			full = time.Time{}
		case !errors.Is(err, unix.EAGAIN):
			t.Fatal(err)
		case full.IsZero():
			full = time.Now()
		case time.Since(full) > 200*time.Millisecond:
			return n
		default:
			time.Sleep(time.Millisecond)
		}
		if n > 1<<16 {
			return n
		}
	}
}

// kernelQueue is how many datagrams the kernel keeps, with room for a difference of one or two.
func kernelQueue(t *testing.T) int {
	text, err := os.ReadFile("/proc/sys/net/unix/max_dgram_qlen")
	if err != nil {
		t.Skip(err)
	}
	var n int
	if _, err := fmt.Sscan(string(text), &n); err != nil {
		t.Fatal(err)
	}
	return n + 2
}

func TestFloodThatNobodyTakes(t *testing.T) {
	s := start(t, Options{}, abstract, plenty)
	n := flood(t, s, "RELOADING=1")
	if most := maxWaiting + 1 + kernelQueue(t); n > most {
		t.Errorf("%d datagrams found room; want at most %d", n, most)
	}
	for range n { // and nothing that was sent is lost
		take(t, s)
	}
}

func TestFloodIsReadSlowly(t *testing.T) {
	const burst = 5
	s := start(t, Options{}, abstract, limiter{burst: burst, interval: time.Hour})
	if n, most := flood(t, s, "STATUS=x"), burst+kernelQueue(t); n > most {
		t.Errorf("%d datagrams found room; want at most %d", n, most)
	}
	begun := time.Now()
	s.Close()
	if took := time.Since(begun); took > limit {
		t.Errorf("Close took %s", took)
	}
}

// TestFloodWithTheLimitsInUse measures how much is read in a second of the worst, with the limits that are in use.
func TestFloodWithTheLimitsInUse(t *testing.T) {
	s, err := Listen(Options{Directories: abstract})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	sent := 0
	go func() { // ends when the test says so
		defer close(stopped)
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: s.Address()})
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := conn.Write([]byte("READY=1\nSTATUS=x")); err == nil {
				sent++
			}
		}
	}()
	taken := 0
	begun := time.Now()
	for over := time.After(time.Second); over != nil; {
		select {
		case <-s.Messages():
			taken++
		case <-over:
			over = nil
		}
	}
	took := time.Since(begun)
	close(stop)
	<-stopped
	if most := burst + int(took/interval) + 2; taken == 0 || taken > most {
		t.Errorf("%d messages were taken in %s, of %d; want at most %d", taken, took, sent, most)
	}
	t.Logf("%d messages were taken in %s, of %d", taken, took, sent)
}

func TestReaderFails(t *testing.T) {
	s := start(t, Options{}, abstract, plenty)
	say(t, s, "READY=1")
	if m := take(t, s); !m.Ready {
		t.Errorf("%+v", m)
	}
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	if _, ok := <-s.Messages(); ok || !errors.Is(s.Err(), os.ErrDeadlineExceeded) {
		t.Errorf("a reader that can't read ends with %v", s.Err())
	}
}

func TestCloseTwice(t *testing.T) {
	s := start(t, Options{}, []string{t.TempDir()}, plenty)
	var all sync.WaitGroup
	for range 4 {
		all.Go(s.Close)
	}
	all.Wait()
}

func TestSweep(t *testing.T) {
	parent := t.TempDir()
	live := start(t, Options{}, []string{parent}, plenty)
	// One whose supervisor was killed: the file of a socket that nobody has.
	conn, _, stale, err := bindFile(parent)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	empty := filepath.Join(parent, "huptime-notify-empty")
	target := t.TempDir()
	link := filepath.Join(parent, "huptime-notify-link")
	if err := errors.Join(os.Mkdir(empty, 0o700), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	again := start(t, Options{}, []string{parent}, plenty)
	if _, err := os.Lstat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed supervisor left is still there: %v", err)
	}
	for _, path := range []string{empty, target, live.Address(), again.Address()} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	say(t, live, "READY=1")
	take(t, live)
}

// TestSystemdNotify hears the client that everybody has. It returns when its barrier has gone.
func TestSystemdNotify(t *testing.T) {
	path, err := exec.LookPath("systemd-notify")
	if err != nil {
		t.Skip(err)
	}
	for _, directories := range [][]string{{t.TempDir()}, abstract} {
		s := start(t, Options{}, directories, plenty)
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, "--ready", "--status=warm")
		cmd.Env = []string{s.Env()}
		done := make(chan error, 1)
		go func() { // ends when the command does
			output, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, output)
			}
			done <- err
		}()
		if m := take(t, s); !m.Ready || m.Status != "warm" {
			t.Errorf("%+v", m)
		}
		if err := <-done; err != nil {
			t.Errorf("systemd-notify: %v", err)
		}
	}
}
