// Package logqueue keeps a log that nobody reads from stopping the program that writes it. Standard error may be a pipe
// whose reader hangs: a write to it blocks, and with it whoever logs next, for a logger has one lock for all. So lines
// are queued here, and one goroutine writes them. What does not fit is dropped and counted; a line says how much it was
// once writing goes on.
//
// It knows nothing of what a line says, and nothing of log/slog.
package logqueue

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// most is how many bytes may be queued: a few thousand lines. As many again may be on their way.
const most = 256 << 10

// Queue is an io.Writer that never blocks and never fails. Each call of Write is one line.
type Queue struct {
	to   io.Writer
	lost func(lines int) []byte
	wake chan struct{} // gets a value when there is something to write, or nothing more will come
	done chan struct{} // closed when all is written

	mu      sync.Mutex
	lines   [][]byte
	size    int
	dropped int // since the last of lines
	closed  bool
}

// New makes a queue in front of to, which the queue alone may write to from now on. lost makes the line that says how
// many were dropped; it is called on the queue's goroutine, which ends after Close.
func New(to io.Writer, lost func(lines int) []byte) *Queue {
	q := &Queue{to: to, lost: lost, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues a copy of the line, or counts it where the queue is full or closed. It returns len(line) and nil.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.Lock()
	// Once one is dropped all are until the queue is taken: so it is known where they are missing.
	if q.closed || q.dropped > 0 || q.size+len(line) > most {
		q.dropped++
	} else {
		q.lines = append(q.lines, append([]byte(nil), line...))
		q.size += len(line)
	}
	q.mu.Unlock()
	q.ping()
	return len(line), nil
}

func (q *Queue) ping() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close takes no more lines and returns when those that are queued are written, or limit is over. What is not written
// by then is lost.
func (q *Queue) Close(limit time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ping()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-q.done:
	case <-timer.C:
	}
}

func (q *Queue) run() {
	defer close(q.done)
	for range q.wake {
		q.mu.Lock()
		lines, dropped, closed := q.lines, q.dropped, q.closed
		q.lines, q.size, q.dropped = nil, 0, 0
		q.mu.Unlock()
		for _, line := range lines {
			q.write(line)
		}
		if dropped > 0 {
			q.write(q.lost(dropped))
		}
		if closed {
			return
		}
	}
}

// How long to wait before a write is tried again that would have blocked.
const (
	shortestWait = time.Millisecond
	longestWait  = 100 * time.Millisecond
)

// write writes a line. A failure has nobody to be told to. That it would block is none: standard error is shared with
// others, who may have set O_NONBLOCK on it.
func (q *Queue) write(line []byte) {
	for wait := shortestWait; ; wait = min(2*wait, longestWait) {
		n, err := q.to.Write(line)
		if !errors.Is(err, unix.EAGAIN) {
			return
		}
		line = line[n:]
		time.Sleep(wait)
	}
}
