package suite

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// load is a number of clients that make requests and check each answer. None retries anything: an error is a failed request.
type load struct {
	t    *testing.T
	addr string
	ask  func(c *client) (reply, error)
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []string
	resets   int
	times    []time.Duration
	seen     map[string]bool // PIDs that have answered
	changed  chan struct{}   // closed and replaced when a new PID answers
}

// client is one connection.
type client struct {
	conn  net.Conn
	r     *bufio.Reader
	keeps bool
}

// reply is what a service says of itself.
type reply struct{ pid, version string }

// requestLimit is when a client gives up: a lost connection, not a slow machine.
const requestLimit = 20 * time.Second

// clients is how many of each kind there are.
const clients = 8

// perConnection is how many requests a kept-alive client makes before it opens another connection, so that drains can end.
const perConnection = 25

// startLoad runs clients that make a connection for each request, and as many that keep theirs.
func startLoad(t *testing.T, addr string, ask func(c *client) (reply, error), each int) *load {
	return startClients(t, addr, ask, slices.Repeat([]int{1, perConnection}, each)...)
}

// startClients starts as many clients as there are numbers: each is of how many requests that client makes on a connection.
func startClients(t *testing.T, addr string, ask func(c *client) (reply, error), requests ...int) *load {
	l := &load{t: t, addr: addr, ask: ask, stop: make(chan struct{}), seen: make(map[string]bool), changed: make(chan struct{})}
	for _, each := range requests {
		l.done.Go(func() {
			for !l.stopped() {
				l.connection(each)
			}
		})
	}
	t.Cleanup(func() { l.end() })
	return l
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

func (l *load) connection(requests int) {
	began := time.Now()
	c, err := dial(l.addr, requests > 1)
	if err != nil {
		l.failed(err)
		return
	}
	defer c.conn.Close()
	for i := range requests {
		if i > 0 {
			began = time.Now()
		}
		answer, err := l.ask(c)
		if err != nil {
			l.failed(fmt.Errorf("request %d of %d on %s: %w", i+1, requests, c.conn.LocalAddr(), err))
			return
		}
		l.succeeded(answer, time.Since(began))
	}
}

func dial(addr string, keeps bool) (*client, error) {
	network := "tcp"
	if strings.ContainsAny(addr[:1], "/@") {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, addr, requestLimit)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(requestLimit))
	return &client{conn: conn, r: bufio.NewReader(conn), keeps: keeps}, nil
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.failures = append(l.failures, time.Now().Format("15:04:05.000 ")+err.Error())
	if errors.Is(err, syscall.ECONNRESET) {
		l.resets++
	}
}

func (l *load) succeeded(answer reply, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.times = append(l.times, took)
	if !l.seen[answer.pid] {
		l.seen[answer.pid] = true
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// pids tells how many processes have answered so far.
func (l *load) pids() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// awaitNewPID waits until more processes have answered than before.
func (l *load) awaitNewPID(before int) {
	l.t.Helper()
	limit := time.After(patience)
	for {
		l.mu.Lock()
		changed, n := l.changed, len(l.seen)
		l.mu.Unlock()
		if n > before {
			return
		}
		select {
		case <-changed:
		case <-limit:
			l.t.Fatal("no new process answers")
		}
	}
}

// awaitRequests waits until n requests have ended.
func (l *load) awaitRequests(n int) {
	l.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		ended := l.requests
		l.mu.Unlock()
		if ended >= n {
			return
		}
		if time.Now().After(limit) {
			l.t.Fatalf("%d requests have ended, want %d", ended, n)
		}
	}
}

// check ends the load and fails the test for every failed request.
func (l *load) check(what string) {
	l.t.Helper()
	l.end()
	slices.Sort(l.times)
	if len(l.times) == 0 {
		l.t.Fatalf("%s: no request was answered", what)
	}
	at := func(q float64) time.Duration { return l.times[min(len(l.times)-1, int(q*float64(len(l.times))))] }
	l.t.Logf("%s: %d failed of %d requests; median %v, p99.9 %v, longest %v; %d processes answered",
		what, len(l.failures), l.requests, at(0.5).Round(time.Microsecond), at(0.999).Round(time.Microsecond),
		l.times[len(l.times)-1].Round(time.Microsecond), len(l.seen))
	if len(l.failures) > 0 {
		l.t.Errorf("%s: %d failed of %d requests (%d resets), the first: %s", what, len(l.failures), l.requests, l.resets,
			strings.Join(l.failures[:min(5, len(l.failures))], "; "))
	}
}

// get asks for a path over HTTP/1.1 and reads every byte of the answer.
func get(c *client, path string) (reply, error) {
	conn := "close"
	if c.keeps {
		conn = "keep-alive"
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: %s\r\n\r\n", path, conn); err != nil {
		return reply{}, err
	}
	status, err := c.r.ReadString('\n')
	if err != nil {
		return reply{}, fmt.Errorf("status line: %w", err)
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return reply{}, fmt.Errorf("status line %q", status)
	}
	length := -1
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return reply{}, fmt.Errorf("headers: %w", err)
		}
		if line == "\r\n" {
			break
		}
		fmt.Sscanf(strings.ToLower(line), "content-length: %d", &length)
	}
	if length < 0 {
		return reply{}, errors.New("no length")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return reply{}, fmt.Errorf("body: %w", err)
	}
	if !c.keeps {
		// The end has to come in order too, not as a reset.
		if n, err := c.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			return reply{}, fmt.Errorf("after the body: %d bytes, %w", n, err)
		}
	}
	return parseBody(string(body))
}

func parseBody(body string) (reply, error) {
	var r reply
	if n, err := fmt.Sscanf(body, "pid=%s version=%s\n", &r.pid, &r.version); n != 2 || err != nil {
		return r, fmt.Errorf("wrong content %q", body)
	}
	return r, nil
}

func askHTTP(c *client) (reply, error) { return get(c, "/") }

// askRedis asks for a section of INFO, which has the process's PID.
func askRedis(c *client) (reply, error) {
	if _, err := io.WriteString(c.conn, "INFO server\r\n"); err != nil {
		return reply{}, err
	}
	var length int
	if _, err := fmt.Fscanf(c.r, "$%d\r\n", &length); err != nil {
		return reply{}, fmt.Errorf("length: %w", err)
	}
	body := make([]byte, length+2)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return reply{}, fmt.Errorf("body: %w", err)
	}
	_, rest, ok := strings.Cut(string(body), "process_id:")
	pid, _, _ := strings.Cut(rest, "\r\n")
	if !ok || pid == "" || !strings.Contains(string(body), "redis_version:") {
		return reply{}, fmt.Errorf("wrong content %q", body)
	}
	return reply{pid: pid}, nil
}
