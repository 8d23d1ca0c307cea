package logqueue

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 10 * time.Second

func lost(n int) []byte { return fmt.Appendf(nil, "%d lost\n", n) }

func TestOrder(t *testing.T) {
	t.Parallel()
	var got, want bytes.Buffer
	q := New(&got, lost)
	for i := range 1000 {
		fmt.Fprintf(q, "line %d\n", i)
		fmt.Fprintf(&want, "line %d\n", i)
	}
	q.Close(patience)
	if got.String() != want.String() {
		t.Errorf("%q", got.String())
	}
	if n, err := q.Write([]byte("late")); n != 4 || err != nil {
		t.Errorf("after Close: %d, %v", n, err)
	}
}

// TestFaultD2Blocked: nobody reads. Writes return, what does not fit is counted, and each line is either there or
// counted, in order.
func TestFaultD2Blocked(t *testing.T) {
	t.Parallel()
	for _, nonblocking := range []bool{false, true} {
		t.Run(fmt.Sprint("O_NONBLOCK ", nonblocking), func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			var to io.Writer = w
			if nonblocking {
				to = raw(w.Fd()) // a write that does not wait
				if err := unix.SetNonblock(int(w.Fd()), true); err != nil {
					t.Fatal(err)
				}
			}
			q := New(to, lost)
			const lines = 20000
			line := strings.Repeat("x", 90)
			for i := range lines {
				fmt.Fprintf(q, "%d %s\n", i, line)
			}
			began := time.Now()
			q.Close(50 * time.Millisecond)
			if took := time.Since(began); took > patience {
				t.Errorf("Close took %v", took)
			}
			text := make(chan string)
			go func() {
				b, _ := io.ReadAll(r)
				text <- string(b)
			}()
			select {
			case <-q.done:
			case <-time.After(patience):
				t.Fatal("the queue's goroutine does not end")
			}
			w.Close()
			at := 0
			for _, l := range strings.Split(strings.TrimSuffix(<-text, "\n"), "\n") {
				var n int
				switch fields := strings.Fields(l); {
				case len(fields) != 2:
					t.Fatalf("%q", l)
				case fields[1] == "lost":
					fmt.Sscan(fields[0], &n)
					at += n
				default:
					if fmt.Sscan(fields[0], &n); n != at {
						t.Fatalf("line %d, want %d", n, at)
					}
					at++
				}
			}
			if at != lines {
				t.Errorf("%d lines, want %d", at, lines)
			}
		})
	}
}

type raw int

func (fd raw) Write(b []byte) (int, error) {
	n, err := unix.Write(int(fd), b)
	return max(n, 0), err
}
