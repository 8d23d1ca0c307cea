// Program is what the tests of package remote, and those of its users, freeze: a real process, of the ABI that it was built for. What
// it is to do is its argument. It says lines on standard output, and waits for lines on standard input.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The first thread is the main goroutine's: remote calls are made by it.
func init() { runtime.LockOSThread() }

func main() {
	switch os.Args[1] {
	case "idle":
		idle()
	case "threads":
		n, _ := strconv.Atoi(os.Args[2])
		threads(n)
	case "births":
		births()
	case "waits":
		waits()
	case "main":
		mainWaits()
	case "signalled":
		signalled()
	case "signals":
		signals()
	case "restricted":
		restricted(len(os.Args) > 2)
	case "notified":
		number, _ := strconv.Atoi(os.Args[2])
		notified(number)
	default:
		say("no such program")
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

var stdin = bufio.NewReader(os.Stdin)

// told waits for the test.
func told() { stdin.ReadString('\n') }

func idle() {
	say("ready")
	told()
	say("done")
}

// restricted is idle under two seccomp filters, of its first thread or, if all is set, of every one.
func restricted(all bool) {
	for range 2 {
		if errno := restrict(all); errno != 0 {
			say("unsupported %v", errno)
			return
		}
	}
	say("ready")
	told()
	say("done")
}

// notified is idle under a filter that asks a listener about one call of its first thread, which nobody but a tracer has it make.
func notified(number int) {
	listener, errno := installFilter(number)
	if errno != 0 {
		say("unsupported %v", errno)
		return
	}
	say("ready %d", listener)
	told()
	say("done")
}

// threads starts as many threads as asked for, each blocked in the kernel.
func threads(n int) {
	for range n {
		go func() {
			runtime.LockOSThread()
			var p [2]int
			unix.Pipe(p[:])
			unix.Read(p[0], make([]byte, 1))
		}()
	}
	for {
		tids, _ := os.ReadDir("/proc/self/task")
		if len(tids) >= n {
			break
		}
		time.Sleep(time.Millisecond)
	}
	idle()
}

// births makes and ends threads all the time.
func births() {
	// As many goroutines want to run at once at the most, so that the one that answers never waits for its turn behind
	// those that make threads: Go looks at it every 61st time only, and on a busy machine that took more than ten seconds.
	runtime.GOMAXPROCS(16)
	var born atomic.Int64
	for range 4 {
		go func() {
			for {
				done := make(chan struct{})
				go func() {
					runtime.LockOSThread() // the thread ends with the goroutine
					born.Add(1)
					close(done)
				}()
				<-done
			}
		}()
	}
	say("ready")
	for {
		told()
		before := born.Load()
		for born.Load() == before {
			time.Sleep(time.Millisecond)
		}
		say("alive")
	}
}

// waits sits in each blocking call, on a thread of its own, and says what came out.
func waits() {
	calls, waitedOn, wake := blockingCalls()
	for name, call := range calls {
		go func() {
			runtime.LockOSThread()
			say("result %s %v", name, call())
		}()
	}
	time.Sleep(200 * time.Millisecond) // the threads go to sleep; the test freezes many times, so a late one is met as well
	say("descriptors %d %d %d", waitedOn[0], waitedOn[1], waitedOn[2])
	say("ready %d", len(calls))
	told()
	wake()
	told()
}

// mainWaits sits in one of them on the first thread, which is the one that runs remote calls.
func mainWaits() {
	calls, _, wake := blockingCalls()
	call := calls[os.Getenv("REMOTE_TEST_CALL")]
	go func() {
		told()
		wake()
	}()
	say("ready %d", unix.Gettid())
	say("result %v", call())
}

// signalled waits on the first thread in epoll_wait until a signal that has a handler comes, which is what many a service
// counts on: the handler makes a note, and EINTR makes the loop look at it.
func signalled() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1)
	ep, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	say("ready %d", unix.Gettid())
	_, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), -1)
	say("result %v", err)
}

// blockingCalls are calls that sleep, the descriptors that some of them wait on (one by poll and its like, two by accept), and what lets
// all of them return without an error.
func blockingCalls() (calls map[string]func() error, waitedOn [3]int, wake func()) {
	var p [2]int
	unix.Pipe2(p[:], unix.O_CLOEXEC)
	ep, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, p[0], &unix.EpollEvent{Events: unix.EPOLLIN})
	var read [2]int
	unix.Pipe2(read[:], unix.O_CLOEXEC)
	listen := func() int {
		fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		unix.Listen(fd, 8)
		return fd
	}
	listener, limited := listen(), listen()
	pair, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	// Calls on a socket with a limit answer EINTR where others are restarted (sock_intr_errno in include/net/sock.h).
	for _, fd := range []int{limited, pair[0]} {
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 600})
	}
	semaphore, _ := strconv.Atoi(os.Getenv("REMOTE_TEST_SEMAPHORE"))
	calls = map[string]func() error{
		"epoll_wait":   func() error { _, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), -1); return err },
		"epoll_pwait":  func() error { return epollPwait(ep) },
		"epoll_pwait2": func() error { return epollPwait2(ep) },
		"poll": func() error {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}, 600_000)
			return err
		},
		"ppoll": func() error { return ppoll(p[0]) },
		"select": func() error {
			var set unix.FdSet
			set.Set(p[0])
			_, err := unix.Select(p[0]+1, &set, nil, nil, nil)
			return err
		},
		"pselect": func() error {
			var set unix.FdSet
			set.Set(p[0])
			_, err := unix.Pselect(p[0]+1, &set, nil, nil, nil, nil)
			return err
		},
		"accept":              func() error { _, _, err := unix.Accept(listener); return err },
		"accept with a limit": func() error { _, _, err := unix.Accept(limited); return err },
		"recv with a limit":   func() error { _, err := unix.Read(pair[0], make([]byte, 1)); return err },
		"read":                func() error { _, err := unix.Read(read[0], make([]byte, 1)); return err },
		"sleep": func() error {
			for !woken.Load() {
				if err := unix.Nanosleep(&unix.Timespec{Nsec: 50_000_000}, nil); err != nil {
					return err
				}
			}
			return nil
		},
		"futex":        futexWait,
		"sigtimedwait": waitSignal,
		"semop":        func() error { return semop(semaphore, -1) },
	}
	return calls, [3]int{p[0], listener, limited}, func() {
		woken.Store(true)
		unix.Write(p[1], []byte("x"))
		unix.Write(read[1], []byte("x"))
		unix.Write(pair[1], []byte("x"))
		semop(semaphore, 1)
		futexWake()
		if only := os.Getenv("REMOTE_TEST_CALL"); only == "" || only == "sigtimedwait" {
			for signalWaiter.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			unix.Tgkill(os.Getpid(), int(signalWaiter.Load()), awaitedSignal)
		}
		for _, fd := range []int{listener, limited} {
			name, _ := unix.Getsockname(fd)
			client, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			unix.Connect(client, name)
		}
	}
}

var woken atomic.Bool

// signals counts what one thread gets of a signal that queues. The thread has it blocked, and takes it off the queue.
func signals() {
	runtime.LockOSThread()
	var set unix.Sigset_t
	const bits = strconv.IntSize // of a long
	set.Val[(queuedSignal-1)/bits] = 1 << ((queuedSignal - 1) % bits)
	unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
	say("ready %d", unix.Gettid())
	end := make(chan struct{})
	go func() { told(); close(end) }()
	count := 0
	for {
		if takeSignal(&set) {
			if count++; count == 100 {
				say("all")
			}
			continue
		}
		select {
		case <-end:
			say("count %d", count)
			return
		default:
		}
	}
}

// These are real-time signals, which queue. The test sends the first.
const (
	queuedSignal  = 40
	awaitedSignal = unix.Signal(41)
)
