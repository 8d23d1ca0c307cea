// Package puppets lets tests say in their own text what a service does, step by step: a puppet is a process that makes the system calls that a test tells
// it to make, each on the thread that the test names, and waits in the kernel wherever the test wants it to. Only tests use it.
package puppets

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

// patience bounds the wait for a call; it is no measure of anything.
const patience = 30 * time.Second

// Name is the first argument of a puppet; the second is the descriptor of its control. A test binary that finds it calls Run.
const Name = "puppet"

// Order is one call to make. Memory has the arguments that point to memory, with what is there.
type Order struct {
	ID, Thread int
	Number     uintptr
	Args       [6]uint64
	Memory     map[int][]byte `json:",omitempty"`
	Worker     []int          `json:",omitempty"` // in place of a call: start a puppet with these descriptors, the first its control
}

// Result is what a call returned, and what it has left in memory.
type Result struct {
	ID     int
	Value  int
	Errno  unix.Errno
	Memory map[int][]byte `json:",omitempty"`
}

// Run is the puppet's side. It ends with the test's end of the connection.
func Run(control int) int {
	threads := make(map[int]chan Order)
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
		var o Order
		if err := json.Unmarshal(buf[:n], &o); err != nil {
			return 125
		}
		orders := threads[o.Thread]
		if orders == nil {
			orders = make(chan Order, 16)
			threads[o.Thread] = orders
			go obey(control, orders) // ends with the process
		}
		orders <- o
	}
}

func obey(control int, orders chan Order) {
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

func (o Order) run() Result {
	r := Result{ID: o.ID, Memory: o.Memory}
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
	pid, err := syscall.ForkExec("/proc/self/exe", []string{os.Args[0], Name, strconv.Itoa(o.Worker[0])},
		&syscall.ProcAttr{Env: os.Environ(), Files: files})
	r.Value = pid
	if errno, ok := err.(syscall.Errno); ok {
		r.Errno = errno
	}
	return r
}

// Puppet is the test's side.
type Puppet struct {
	PID     int
	control int // owned
	ended   chan struct{}

	mu      sync.Mutex
	last    int
	pending map[int]chan Result
}

// New takes ownership of control, which it closes when the test is over: after the process was killed, by
// whoever started it and has called t.Cleanup after this function.
func New(t *testing.T, pid, control int) *Puppet {
	p := &Puppet{PID: pid, control: control, ended: make(chan struct{}), pending: make(map[int]chan Result)}
	go p.listen() // ends when the connection is shut down, below
	t.Cleanup(func() {
		_ = unix.Shutdown(control, unix.SHUT_RDWR)
		<-p.ended
		_ = unix.Close(control)
	})
	return p
}

func (p *Puppet) listen() {
	defer close(p.ended)
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(p.control, buf)
		if err == unix.EINTR {
			continue
		}
		var r Result
		if n <= 0 || json.Unmarshal(buf[:n], &r) != nil {
			return
		}
		p.mu.Lock()
		p.pending[r.ID] <- r
		delete(p.pending, r.ID)
		p.mu.Unlock()
	}
}

// Pending is a call that may not have returned yet.
type Pending struct {
	p       *Puppet
	results chan Result
}

// Begin makes the thread issue a call. Arguments are numbers, or bytes: a pointer to a copy of them.
func (p *Puppet) Begin(t *testing.T, thread int, number uintptr, args ...any) *Pending {
	t.Helper()
	o := Order{Thread: thread, Number: number, Memory: make(map[int][]byte)}
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
	return p.Order(t, o)
}

// Order sends an order; its ID is filled in.
func (p *Puppet) Order(t *testing.T, o Order) *Pending {
	t.Helper()
	call := &Pending{p: p, results: make(chan Result, 1)}
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
		t.Fatalf("puppet %d: %v", p.PID, err)
	}
	return call
}

// Wait returns what the call returned.
func (c *Pending) Wait(t *testing.T) Result {
	t.Helper()
	select {
	case r := <-c.results:
		return r
	case <-c.p.ended:
		t.Fatalf("puppet %d has ended", c.p.PID)
	case <-time.After(patience):
		t.Fatalf("puppet %d: the call has not returned within %v", c.p.PID, patience)
	}
	return Result{}
}

// Results gets what the call returned, once.
func (c *Pending) Results() <-chan Result { return c.results }

// Returned tells whether the call is over.
func (c *Pending) Returned() bool { return len(c.results) > 0 }

// Call makes a call and waits for its result.
func (p *Puppet) Call(t *testing.T, thread int, number uintptr, args ...any) Result {
	t.Helper()
	return p.Begin(t, thread, number, args...).Wait(t)
}

// Must is call where failure ends the test.
// Must is Call of what may not fail; it returns the value.
func (p *Puppet) Must(t *testing.T, thread int, number uintptr, args ...any) int {
	t.Helper()
	r := p.Call(t, thread, number, args...)
	if r.Errno != 0 {
		t.Fatalf("puppet %d: call %d: %v", p.PID, number, r.Errno)
	}
	return r.Value
}
