// Program is what the tests of package remote, and those of its users, freeze: a real process, of the ABI that it was built for. What
// it is to do is its argument. It says lines on standard output, and waits for lines on standard input.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

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
	case "signals":
		signals()
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
	var p [2]int
	unix.Pipe2(p[:], unix.O_CLOEXEC)
	ep, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, p[0], &unix.EpollEvent{Events: unix.EPOLLIN})
	listener, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	unix.Listen(listener, 8)
	var read [2]int
	unix.Pipe2(read[:], unix.O_CLOEXEC)
	calls := map[string]func() error{
		"epoll_wait":  func() error { _, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), -1); return err },
		"epoll_pwait": func() error { return epollPwait(ep) },
		"poll": func() error {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}, 60_000)
			return err
		},
		"ppoll": func() error { return ppoll(p[0]) },
		"select": func() error {
			var set unix.FdSet
			set.Set(p[0])
			_, err := unix.Select(p[0]+1, &set, nil, nil, nil)
			return err
		},
		"accept": func() error { _, _, err := unix.Accept(listener); return err },
		"read":   func() error { _, err := unix.Read(read[0], make([]byte, 1)); return err },
		"sleep": func() error {
			for !woken.Load() {
				if err := unix.Nanosleep(&unix.Timespec{Nsec: 50_000_000}, nil); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for name, call := range calls {
		go func() {
			runtime.LockOSThread()
			say("result %s %v", name, call())
		}()
	}
	time.Sleep(200 * time.Millisecond) // the threads go to sleep; the test freezes many times, so a late one is met as well
	say("descriptors %d %d", p[0], listener)
	say("ready %d", len(calls))
	told()
	woken.Store(true)
	unix.Write(p[1], []byte("x"))
	unix.Write(read[1], []byte("x"))
	name, _ := unix.Getsockname(listener)
	client, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	unix.Connect(client, name)
	told()
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

// queuedSignal is a real-time signal, which queues; the test sends it.
const queuedSignal = 40
