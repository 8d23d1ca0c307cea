package suite

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ways are those in which testdata/waits.c can wait for its clients. Where it says no other, the socket does not block.
var ways = []string{
	"accept", "accept4", // on a blocking socket; the second asks for connections that do not block
	"poll", "pollblocking", "ppoll", "select", "pselect",
	"level", "edge", "exclusive", "oneshot", "nested", // epoll
	"shared", // one epoll set for all processes, made before fork
	"toggle", // registers the socket anew each time, as nginx does with accept_mutex
	"stale",  // the number that is registered is closed, the socket lives on at another one
	"dup",    // polls one number and accepts from another
	"daemon", // epoll, in a process that has left its parents, session and group
	"passed", // workers get the socket by SCM_RIGHTS
}

// compiled builds a C program of testdata, once for all tests.
func compiled(t *testing.T, name string) string {
	t.Helper()
	compiler := program(t, "gcc", "cc")
	programsMu.Lock()
	defer programsMu.Unlock()
	binary := filepath.Join(filepath.Dir(goserver), name)
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	out, err := exec.Command(compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", binary, "testdata/"+name+".c").CombinedOutput()
	if err != nil {
		t.Fatalf("cannot build %s: %v\n%s", name, err, out)
	}
	return binary
}

var programsMu sync.Mutex

func waits(t *testing.T, way string, workers int) service {
	t.Helper()
	port := freePort(t)
	version := write(t, filepath.Join(t.TempDir(), "version"), "1")
	return service{
		name:    way,
		command: []string{compiled(t, "waits"), way, strconv.Itoa(port), version, strconv.Itoa(workers)},
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
		version: version,
	}
}

// TestEveryWayToWait: however a service waits for clients, once it is gated it takes none, does not spin, and goes on with those that it
// has; and it ends when they have gone.
func TestEveryWayToWait(t *testing.T) {
	for _, way := range ways {
		for _, workers := range []int{0, 3} {
			if way == "passed" && workers == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", way, workers), func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					t.Parallel()
					gatedInWait(t, waits(t, way, workers), level)
				})
			})
		}
	}
}

func gatedInWait(t *testing.T, s service, level string) {
	const news = 40 // clients of the new generation
	h := s.run(t, level)
	kept := connect(t, s.addr)
	mustSay(t, kept, "1")
	old := h.processes()
	write(t, s.version, "2")
	h.hup()
	h.await("restart finished", 2)

	before := usage(t, old)
	began := time.Now()
	for i := range news {
		if r := s.mustAnswer(t); r.version != "2" {
			t.Fatalf("client %d after the restart was answered by version %s", i, r.version)
		}
		mustSay(t, kept, "1")
		// The clients come one by one, for as long as a spinning process would take to show.
		time.Sleep(time.Until(began.Add(time.Duration(i) * 10 * time.Millisecond)))
	}
	after := usage(t, old)
	took := time.Since(began)
	for _, pid := range old {
		// One that spins uses nearly all of its share. The requests of the one that has the kept connection are a tick at the most.
		if ticks := after[pid].ticks - before[pid].ticks; ticks > 2 {
			t.Errorf("process %d of the gated generation used %d ticks of CPU time in %v", pid, ticks, took)
		}
		// One that each new client wakes up takes none, and still does not wait as it should. At connections it may once.
		if n := after[pid].wakeups - before[pid].wakeups; n > news/2 {
			t.Errorf("process %d of the gated generation woke up %d times for %d clients of the new one", pid, n, news)
		}
	}
	if n := h.count("generation drained"); n > 0 {
		t.Error("drained with a connection open")
	}
	if n := h.count("old generation not gated wholly"); n > 0 {
		t.Error("not gated wholly")
	}
	kept.conn.Close()
	h.await("generation drained", 1)
	h.await("generation ended", 1)
	if r := s.mustAnswer(t); r.version != "2" {
		t.Errorf("version %s answers at the end", r.version)
	}
	if n := h.count("generation killed"); n > 0 {
		t.Error("the old generation had to be killed")
	}
}

// used is what a process has used so far.
type used struct {
	ticks   int // of CPU time, 10 ms each
	wakeups int // of its first thread, which is the one that waits for clients; connections have others
}

func usage(t *testing.T, pids []int) map[int]used {
	t.Helper()
	all := make(map[int]used)
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatalf("the old generation has lost a process: %v", err)
		}
		// proc_pid_stat(5): the name, in parentheses, may have blanks. utime and stime are fields 14 and 15.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		u := used{ticks: user + system}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				u.wakeups, _ = strconv.Atoi(strings.TrimSpace(value))
			}
		}
		all[pid] = u
	}
	return all
}
