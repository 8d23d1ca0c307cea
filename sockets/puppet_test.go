package sockets

import (
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A puppet is a process that makes the system calls that a test tells it to make, each on the thread that
// the test names. So a test says in its own text what a service does, step by step, and the service waits
// in the kernel wherever the test wants it to.
const puppetName = "puppet"

// puppetOrder is one call to make. Memory has the arguments that point to memory, with what is there.
type puppetOrder struct {
	ID, Thread int
	Number     uintptr
	Args       [6]uint64
	Memory     map[int][]byte `json:",omitempty"`
	Worker     []int          `json:",omitempty"` // in place of a call: start a puppet with these descriptors, the first its control
}

type puppetResult struct {
	ID     int
	Value  int
	Errno  unix.Errno
	Memory map[int][]byte `json:",omitempty"`
}

// runPuppet is the puppet's side. It ends with the test's end of the connection.
func runPuppet(control int) int {
	threads := make(map[int]chan puppetOrder)
	polled := []unix.PollFd{{Fd: int32(control), Events: unix.POLLIN}}
	buf := make([]byte, 1<<16)
	for {
		// A process that waits in read(2) might be about to accept; one in poll(2) is not.
		if _, err := unix.Poll(polled, -1); err != nil {
			continue
		}
		n, _ := unix.Read(control, buf)
		if n <= 0 {
			return 0
		}
		var o puppetOrder
		if err := json.Unmarshal(buf[:n], &o); err != nil {
			return 125
		}
		orders := threads[o.Thread]
		if orders == nil {
			orders = make(chan puppetOrder, 16)
			threads[o.Thread] = orders
			go obey(control, orders) // ends with the process
		}
		orders <- o
	}
}

func obey(control int, orders chan puppetOrder) {
	runtime.LockOSThread()
	for o := range orders {
		r := o.run()
		b, err := json.Marshal(r)
		if err == nil {
			_, err = unix.Write(control, b)
		}
		if err != nil {
			os.Exit(125)
		}
	}
}

func (o puppetOrder) run() puppetResult {
	r := puppetResult{ID: o.ID, Memory: o.Memory}
	if len(o.Worker) == 0 {
		r.Value, r.Errno = makeCall(o)
		return r
	}
	files := []uintptr{0, 1, 2}
	for _, fd := range o.Worker {
		for len(files) <= fd {
			files = append(files, ^uintptr(0))
		}
		files[fd] = uintptr(fd)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{os.Args[0], puppetName, strconv.Itoa(o.Worker[0])},
		&syscall.ProcAttr{Env: os.Environ(), Files: files})
	r.Value = pid
	if errno, ok := err.(syscall.Errno); ok {
		r.Errno = errno
	}
	return r
}

// puppet is the test's side.
type puppet struct {
	pid     int
	control int // owned
	ended   chan struct{}

	mu      sync.Mutex
	last    int
	pending map[int]chan puppetResult
}

// newPuppet takes ownership of control, which it closes when the test is over: after the process was killed, by
// whoever started it and has called t.Cleanup after this function.
func newPuppet(t *testing.T, pid, control int) *puppet {
	p := &puppet{pid: pid, control: control, ended: make(chan struct{}), pending: make(map[int]chan puppetResult)}
	go p.listen() // ends when the connection is shut down, below
	t.Cleanup(func() {
		_ = unix.Shutdown(control, unix.SHUT_RDWR)
		<-p.ended
		_ = unix.Close(control)
	})
	return p
}

func (p *puppet) listen() {
	defer close(p.ended)
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(p.control, buf)
		if err == unix.EINTR {
			continue
		}
		var r puppetResult
		if n <= 0 || json.Unmarshal(buf[:n], &r) != nil {
			return
		}
		p.mu.Lock()
		p.pending[r.ID] <- r
		delete(p.pending, r.ID)
		p.mu.Unlock()
	}
}

// pendingCall is a call that may not have returned yet.
type pendingCall struct {
	p       *puppet
	results chan puppetResult
}

// begin makes the thread issue a call. Arguments are numbers, or bytes: a pointer to a copy of them.
func (p *puppet) begin(t *testing.T, thread int, number uintptr, args ...any) *pendingCall {
	t.Helper()
	o := puppetOrder{Thread: thread, Number: number, Memory: make(map[int][]byte)}
	for i, arg := range args {
		switch arg := arg.(type) {
		case int:
			o.Args[i] = uint64(arg)
		case uint64:
			o.Args[i] = arg
		case []byte:
			o.Memory[i] = arg
		default:
			t.Fatalf("argument %d is a %T", i, arg)
		}
	}
	return p.order(t, o)
}

func (p *puppet) order(t *testing.T, o puppetOrder) *pendingCall {
	t.Helper()
	call := &pendingCall{p: p, results: make(chan puppetResult, 1)}
	p.mu.Lock()
	p.last++
	o.ID = p.last
	p.pending[o.ID] = call.results
	p.mu.Unlock()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(p.control, b, unix.MSG_NOSIGNAL, nil); err != nil {
		t.Fatalf("puppet %d: %v", p.pid, err)
	}
	return call
}

// wait returns what the call returned.
func (c *pendingCall) wait(t *testing.T) puppetResult {
	t.Helper()
	select {
	case r := <-c.results:
		return r
	case <-c.p.ended:
		t.Fatalf("puppet %d has ended", c.p.pid)
	case <-time.After(patience):
		t.Fatalf("puppet %d: the call has not returned within %v", c.p.pid, patience)
	}
	return puppetResult{}
}

// returned tells whether the call is over.
func (c *pendingCall) returned() bool { return len(c.results) > 0 }

func (p *puppet) call(t *testing.T, thread int, number uintptr, args ...any) puppetResult {
	t.Helper()
	return p.begin(t, thread, number, args...).wait(t)
}

// must is call where failure ends the test.
func (p *puppet) must(t *testing.T, thread int, number uintptr, args ...any) int {
	t.Helper()
	r := p.call(t, thread, number, args...)
	if r.Errno != 0 {
		t.Fatalf("puppet %d: call %d: %v", p.pid, number, r.Errno)
	}
	return r.Value
}
