package container

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// load is a number of clients that make requests and check each answer. None retries anything: an error is a failed request.
type load struct {
	t     testing.TB
	addr  string
	netns int // PID of a process in the network namespace that the clients are in, or 0
	stop  chan struct{}
	done  sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []string
	times    []time.Duration
	seen     map[string]bool // PIDs that have answered
}

// requestLimit is when a client gives up: a lost connection, not a slow machine.
const requestLimit = 20 * time.Second

// startLoad runs so many clients of each kind: kinds are how many requests one makes over a connection.
func startLoad(t testing.TB, addr string, netns, each int, kinds ...int) *load {
	l := &load{t: t, addr: addr, netns: netns, stop: make(chan struct{}), seen: make(map[string]bool)}
	for range each {
		for _, requests := range kinds {
			l.done.Go(func() { l.client(requests) })
		}
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) client(requests int) {
	if l.netns != 0 {
		// The thread ends with the goroutine, which does not unlock it.
		runtime.LockOSThread()
		if err := enter(l.netns); err != nil {
			l.failed(err)
			return
		}
	}
	for !l.stopped() {
		l.connection(requests)
	}
}

// enter moves the thread into the network namespace of a process.
func enter(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// end stops the clients; what they have begun they finish.
func (l *load) end() {
	if !l.stopped() {
		close(l.stop)
	}
	l.done.Wait()
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.failures = append(l.failures, time.Now().Format("15:04:05.000 ")+err.Error())
}

func (l *load) connection(requests int) {
	began := time.Now()
	conn, err := net.DialTimeout("tcp", l.addr, requestLimit)
	if err != nil {
		l.failed(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestLimit))
	r := bufio.NewReader(conn)
	for i := range requests {
		if i > 0 {
			began = time.Now()
		}
		pid, err := ask(conn, r, requests > 1)
		if err != nil {
			l.failed(fmt.Errorf("request %d of %d: %w", i+1, requests, err))
			return
		}
		l.mu.Lock()
		l.requests++
		l.times = append(l.times, time.Since(began))
		l.seen[pid] = true
		l.mu.Unlock()
	}
}

// ask makes one request and reads every byte of the answer, and its end.
func ask(conn net.Conn, r *bufio.Reader, keeps bool) (pid string, err error) {
	header := "close"
	if keeps {
		header = "keep-alive"
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: test\r\nConnection: %s\r\n\r\n", header); err != nil {
		return "", err
	}
	status, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return "", fmt.Errorf("status line %q: %w", status, err)
	}
	length := -1
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			return "", fmt.Errorf("headers: %w", err)
		}
		fmt.Sscanf(strings.ToLower(line), "content-length: %d", &length)
	}
	if length < 0 {
		return "", errors.New("no length")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return "", fmt.Errorf("body: %w", err)
	}
	var version string
	if n, err := fmt.Sscanf(string(body), "pid=%s version=%s\n", &pid, &version); n != 2 || err != nil {
		return "", fmt.Errorf("wrong content %q", body)
	}
	if !keeps {
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			return "", fmt.Errorf("after the body: %d bytes, %w", n, err)
		}
	}
	return pid, nil
}

// check ends the load and fails the test for every failed request.
func (l *load) check() {
	l.t.Helper()
	l.end()
	slices.Sort(l.times)
	if len(l.times) == 0 {
		l.t.Fatalf("no request was answered: %v", l.failures[:min(5, len(l.failures))])
	}
	l.t.Logf("%d failed of %d requests; median %v, longest %v; %d processes answered", len(l.failures), l.requests,
		l.times[len(l.times)/2].Round(time.Microsecond), l.times[len(l.times)-1].Round(time.Microsecond), len(l.seen))
	if len(l.failures) > 0 {
		l.t.Errorf("%d failed of %d requests, the first: %s", len(l.failures), l.requests, strings.Join(l.failures[:min(5, len(l.failures))], "; "))
	}
}

// freePort asks the kernel for a port that nobody has.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
