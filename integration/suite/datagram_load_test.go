package suite

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// questions sends datagrams at a steady rate and counts the answers to each.
type questions struct {
	t    *testing.T
	stop chan struct{}
	done sync.WaitGroup
	// ask makes question number n of a client, and tell says which number an answer has, or the lower 16 bits of it, and whose it is.
	ask  func(n int) []byte
	tell func(answer []byte) (n int, pid string, err error)

	mu      sync.Mutex
	clients []*asker
	pids    map[string]bool
	changed chan struct{} // closed and replaced when a new PID answers
	wrong   []string
}

// asker is one client: a socket of its own.
type asker struct {
	conn net.Conn
	sent []time.Time
	took []time.Duration
	seen []int // how often each was answered
}

// askers is how many clients there are.
const askers = 4

// startQuestions sends so many datagrams a second to an address of one of net.Dial's networks, from several clients.
func startQuestions(t *testing.T, network, addr string, rate int, ask func(n int) []byte, tell func([]byte) (int, string, error)) *questions {
	t.Helper()
	q := &questions{t: t, stop: make(chan struct{}), ask: ask, tell: tell, pids: make(map[string]bool), changed: make(chan struct{})}
	for i := range askers {
		var conn net.Conn
		var err error
		if network == "unixgram" { // a name of its own, for the answer
			own := filepath.Join(shortDir(t), strconv.Itoa(i))
			conn, err = net.DialUnix(network, &net.UnixAddr{Name: own, Net: network}, &net.UnixAddr{Name: addr, Net: network})
		} else {
			conn, err = net.Dial(network, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { // as the servers do
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 32<<20)
			}
		})
		a := &asker{conn: conn}
		q.clients = append(q.clients, a)
		q.done.Go(func() { q.receive(a) })
		q.done.Go(func() { q.send(a, rate/askers) })
	}
	t.Cleanup(func() { q.end() })
	return q
}

// send keeps the rate on the average: what a late tick has missed is made up for.
func (q *questions) send(a *asker, rate int) {
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		for due := int(time.Since(began).Seconds() * float64(rate)); n < due; n++ {
			b := q.ask(n)
			q.mu.Lock()
			a.sent = append(a.sent, time.Now())
			a.seen = append(a.seen, 0)
			q.mu.Unlock()
			if _, err := a.conn.Write(b); err != nil {
				q.note(fmt.Sprintf("question %d: %v", n, err))
			}
		}
		select {
		case <-q.stop:
			// What is under way may yet be answered, on a busy machine after seconds; and what is answered twice comes then.
			for limit := time.Now().Add(requestLimit); !q.answered(a) && time.Now().Before(limit); {
				<-tick.C
			}
			a.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			return
		case <-tick.C:
		}
	}
}

func (q *questions) note(what string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wrong = append(q.wrong, time.Now().Format("15:04:05.000 ")+what)
}

func (q *questions) receive(a *asker) {
	buf := make([]byte, 4096)
	for {
		n, err := a.conn.Read(buf)
		if os.IsTimeout(err) {
			return
		}
		if err != nil {
			q.note("answer: " + err.Error())
			select {
			case <-q.stop:
				return
			default:
				continue
			}
		}
		number, pid, err := q.tell(buf[:n])
		q.mu.Lock()
		if last := len(a.seen) - 1; number < 1<<16 && last >= 1<<16 {
			number += (last - number) &^ 0xffff // the greatest that was sent
		}
		switch {
		case err != nil || number < 0 || number >= len(a.seen):
			q.wrong = append(q.wrong, fmt.Sprintf("answer %q: %v", buf[:n], err))
		default:
			a.seen[number]++
			a.took = append(a.took, time.Since(a.sent[number]))
		}
		if !q.pids[pid] {
			q.pids[pid] = true
			close(q.changed)
			q.changed = make(chan struct{})
		}
		q.mu.Unlock()
	}
}

func (q *questions) answered(a *asker) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(a.took) >= len(a.sent)
}

// processes tells how many have answered so far.
func (q *questions) processes() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pids)
}

// awaitNew waits until more processes have answered than before.
func (q *questions) awaitNew(before int) {
	q.t.Helper()
	limit := time.After(patience)
	for q.processes() <= before {
		q.mu.Lock()
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			q.t.Fatal("no new process answers")
		}
	}
}

func (q *questions) end() {
	select {
	case <-q.stop:
	default:
		close(q.stop)
	}
	q.done.Wait()
	for _, a := range q.clients {
		a.conn.Close()
	}
}

// check ends the load, and fails the test for every question that was not answered once.
func (q *questions) check(what string) {
	q.t.Helper()
	q.end()
	asked, lost, twice := 0, 0, 0
	var longest time.Duration
	var when []string
	for _, a := range q.clients {
		asked += len(a.seen)
		for n, times := range a.seen {
			if times == 0 {
				lost++
				when = append(when, a.sent[n].Format("15:04:05.000"))
			}
			if times > 1 {
				twice++
			}
		}
		for _, d := range a.took {
			longest = max(longest, d)
		}
	}
	q.t.Logf("%s: %d asked, %d lost, %d answered twice, %d answers or sends wrong; longest %v; %d processes answered",
		what, asked, lost, twice, len(q.wrong), longest.Round(time.Microsecond), len(q.pids))
	if asked == 0 || lost > 0 || twice > 0 || len(q.wrong) > 0 {
		q.t.Errorf("%s: %d of %d lost (asked at %v), %d twice, wrong: %v", what, lost, asked, when[:min(10, len(when))], twice, q.wrong[:min(5, len(q.wrong))])
	}
}

func askEcho(n int) []byte { return []byte(strconv.Itoa(n)) }

func tellEcho(answer []byte) (int, string, error) {
	pid, text, _ := strings.Cut(string(answer), " ")
	n, err := strconv.Atoi(text)
	return n, pid, err
}
