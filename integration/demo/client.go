package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	requestsPerConnection = 25
	requestTimeout        = 10 * time.Second
	// pause lies between a client's requests. Without one, the clients and the service would fight for the machine's
	// processors, and a request's time would tell of that instead of the restart.
	pause = 200 * time.Microsecond
)

// load is what the clients have seen. They share it, the driver reads it.
type load struct {
	newPID chan int // each PID when it first answers; the buffer holds more than a run can see

	mu       sync.Mutex
	seen     map[int]bool
	requests int
	failures int
	errors   []error       // the first few failures
	longest  time.Duration // since the last call of window
}

func newLoad() *load {
	return &load{newPID: make(chan int, 1000), seen: map[int]bool{}}
}

// record counts a request that was answered by pid, or failed.
func (l *load) record(pid int, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.longest = max(l.longest, took)
	if err != nil {
		l.failures++
		if len(l.errors) < 5 {
			l.errors = append(l.errors, err)
		}
		return
	}
	if !l.seen[pid] {
		l.seen[pid] = true
		l.newPID <- pid
	}
}

// window returns the counts so far, and the longest request since it was last called.
func (l *load) window() (requests, failures int, longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest, l.longest = l.longest, 0
	return l.requests, l.failures, longest
}

func (l *load) pids() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var pids []int
	for pid := range l.seen {
		pids = append(pids, pid)
	}
	return pids
}

// client sends requests to addr until ctx ends, perConnection of them on each connection.
//
// It is not net/http's client, because that one sends a request again when a kept-alive connection breaks, and so would hide
// the very thing that is to be counted. Here nothing is tried twice.
func (l *load) client(ctx context.Context, name, addr string, perConnection int) {
	number := 0
	for ctx.Err() == nil {
		// The connection is part of its first request: refused is failed.
		start := time.Now()
		conn, err := net.DialTimeout("tcp", addr, requestTimeout)
		if err != nil {
			l.record(0, time.Since(start), err)
			time.Sleep(10 * time.Millisecond) // a dead service should not cost a processor as well
			continue
		}
		reader := bufio.NewReader(conn)
		for i := range perConnection {
			if i > 0 {
				time.Sleep(pause)
				if ctx.Err() != nil {
					break
				}
				start = time.Now()
			}
			number++
			pid, err := request(conn, reader, fmt.Sprintf("/%s/%d", name, number), perConnection == 1)
			l.record(pid, time.Since(start), err)
			if err != nil {
				break
			}
		}
		conn.Close()
		time.Sleep(pause)
	}
}

// request sends one request and checks all of the answer. If it is the connection's only one, it asks the
// service to close, and the end must be an orderly one too. It returns the PID that answered.
func request(conn net.Conn, reader *bufio.Reader, path string, only bool) (int, error) {
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return 0, err
	}
	header := ""
	if only {
		header = "Connection: close\r\n"
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: demo\r\n%s\r\n", path, header); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, fmt.Errorf("no answer to %s: %w", path, err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return 0, fmt.Errorf("answer to %s cut short: %w", path, err)
	}
	words := strings.Fields(string(body))
	if resp.StatusCode != http.StatusOK || len(words) != 4 || words[0] != "process" || words[3] != path {
		return 0, fmt.Errorf("wrong answer to %s: %s, %q", path, resp.Status, body)
	}
	if only {
		if _, err := reader.ReadByte(); err != io.EOF {
			return 0, fmt.Errorf("connection of %s did not end after the answer: %w", path, err)
		}
	}
	pid, err := strconv.Atoi(words[1])
	if err != nil {
		return 0, fmt.Errorf("wrong answer to %s: %w", path, err)
	}
	return pid, nil
}
