package container

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for an event. It is no measure of anything: reaching it fails the test.
const patience = 60 * time.Second

// runtimes are the OCI runtimes that every scenario runs under.
var runtimes = []string{"runc", "crun"}

// eachRuntime runs a test under every runtime that works here.
func eachRuntime(t *testing.T, test func(t *testing.T, r string)) {
	for _, r := range runtimes {
		t.Run(r, func(t *testing.T) {
			works(t, r)
			test(t, r)
		})
	}
}

var probes = map[string]func() error{
	"runc": sync.OnceValue(func() error { return probe("runc") }),
	"crun": sync.OnceValue(func() error { return probe("crun") }),
}

// works skips the test where the runtime runs nothing here, with what it says itself.
func works(t testing.TB, r string) {
	t.Helper()
	if _, err := exec.LookPath(r); err != nil {
		missing(t, err.Error()+": run make deps")
	}
	if err := probes[r](); err != nil {
		t.Skip("unsupported here:", err)
	}
}

// probe runs a container that does nothing.
func probe(r string) error {
	if os.Getuid() != 0 {
		return fmt.Errorf("%s without root", r)
	}
	dir, err := os.MkdirTemp("", "huptime-probe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var failed error
	b := &bundle{t: probing{failed: &failed}, dir: dir, args: []string{"/inside", "exit", "7"}}
	b.mkdir("proc")
	b.mkdir("dev")
	b.copy("inside", inside)
	b.configure()
	if failed != nil {
		return failed
	}
	cmd := command(r, dir, "run", "--bundle", dir, b.id())
	out, err := cmd.CombinedOutput()
	command(r, dir, "delete", "-f", b.id()).Run()
	if cmd.ProcessState.ExitCode() != 7 {
		return fmt.Errorf("%s does not run: %w: %s", r, err, bytes.TrimSpace(out))
	}
	return nil
}

// probing takes failures where there is no test yet.
type probing struct {
	testing.TB
	failed *error
}

func (p probing) Helper()           {}
func (p probing) Fatal(args ...any) { *p.failed = fmt.Errorf("%v", fmt.Sprint(args...)) }

// command is a call of the runtime, with its state in a directory of the test's own. crun 1.8 refuses machines that have cgroup
// version 2 beside version 1; it runs in a mount namespace that has it not.
func command(r, dir string, args ...string) *exec.Cmd {
	args = append([]string{"--root", filepath.Join(dir, "state")}, args...)
	const unified = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(unified); err != nil || r != "crun" {
		return exec.Command(r, args...)
	}
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c", "umount " + unified + "; exec \"$@\"", "sh", r}, args...)...)
}

// event is a line of huptime's log.
type event struct {
	Msg         string
	Generation  int
	PID         int
	Reason      string
	Status      string
	Why         string
	Error       string
	Track       string
	Level       string
	Connections int
}

// container is a running one.
type container struct {
	t       testing.TB
	b       *bundle
	runtime string
	cmd     *exec.Cmd
	exited  chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each line
	events  []event
	output  []string // what is no log line
}

// run starts the container. It is killed with the test.
func (b *bundle) run(r string) *container {
	b.t.Helper()
	b.configure()
	c := &container{t: b.t, b: b, runtime: r, exited: make(chan struct{}), changed: make(chan struct{})}
	c.cmd = command(r, b.dir, "run", "--bundle", b.dir, b.id())
	read, write, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	c.cmd.Stdout, c.cmd.Stderr = write, write
	if err := c.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	write.Close()
	c.watch(read)
	return c
}

// watch follows the container's output until its end.
func (c *container) watch(read *os.File) {
	var reading sync.WaitGroup
	reading.Go(func() { c.read(read) })
	go func() {
		c.cmd.Wait()
		close(c.exited)
	}()
	c.t.Cleanup(func() {
		select {
		case <-c.exited:
		default:
			command(c.runtime, c.b.dir, "kill", c.b.id(), "KILL").Run()
			<-c.exited
		}
		command(c.runtime, c.b.dir, "delete", "-f", c.b.id()).Run()
		reading.Wait()
		read.Close()
		if c.t.Failed() {
			c.dump()
		}
	})
}

func (c *container) read(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var e event
		line := strings.TrimRight(lines.Text(), "\r")
		isEvent := strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &e) == nil
		c.mu.Lock()
		if isEvent {
			c.events = append(c.events, e)
		} else {
			c.output = append(c.output, line)
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

func (c *container) dump() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events[max(0, len(c.events)-60):] {
		c.t.Logf("log: %+v", e)
	}
	for _, line := range c.output[max(0, len(c.output)-20):] {
		c.t.Logf("output: %s", line)
	}
}

// until waits until ok holds; it is asked after each line.
func (c *container) until(what string, ok func() bool) {
	c.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		c.mu.Lock()
		changed, done := c.changed, ok()
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// await waits for the event of a generation and returns it. 0 is any.
func (c *container) await(msg string, generation int) event {
	c.t.Helper()
	var found event
	c.until(fmt.Sprintf("%q of generation %d", msg, generation), func() bool {
		i := slices.IndexFunc(c.events, func(e event) bool {
			return e.Msg == msg && (generation == 0 || e.Generation == generation)
		})
		if i >= 0 {
			found = c.events[i]
		}
		return i >= 0
	})
	return found
}

// awaitOutput waits for a line that is not huptime's and contains text.
func (c *container) awaitOutput(text string) string {
	c.t.Helper()
	var found string
	c.until("the output "+text, func() bool {
		i := slices.IndexFunc(c.output, func(line string) bool { return strings.Contains(line, text) })
		if i >= 0 {
			found = c.output[i]
		}
		return i >= 0
	})
	return found
}

// logged tells how many such events there were.
func (c *container) logged(msg string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Msg == msg {
			n++
		}
	}
	return n
}

// exec runs a program inside, and returns its output.
func (c *container) exec(args ...string) string {
	c.t.Helper()
	// crun takes root unless told otherwise.
	user := fmt.Sprintf("%d:%d", c.b.user, c.b.user)
	cmd := command(c.runtime, c.b.dir, append([]string{"exec", "--user", user, c.b.id()}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("exec %v: %v: %s", args, err, out)
	}
	return string(out)
}

// hup is what `kill -HUP 1` does inside.
func (c *container) hup() { c.t.Helper(); c.exec("/inside", "hup") }

// signal sends a signal to PID 1, as container engines do.
func (c *container) signal(sig syscall.Signal) {
	c.t.Helper()
	if out, err := command(c.runtime, c.b.dir, "kill", c.b.id(), strconv.Itoa(int(sig))).CombinedOutput(); err != nil {
		c.t.Fatalf("kill: %v: %s", err, out)
	}
}

// exit waits for the container's end and returns PID 1's exit status.
func (c *container) exit() int {
	c.t.Helper()
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.t.Fatal("the container does not end")
	}
	return c.cmd.ProcessState.ExitCode()
}

// pid is that of PID 1, on the machine.
func (c *container) pid() int {
	c.t.Helper()
	out, err := command(c.runtime, c.b.dir, "state", c.b.id()).Output()
	var state struct{ PID int }
	if err == nil {
		err = json.Unmarshal(out, &state)
	}
	if err != nil {
		c.t.Fatalf("state: %v: %s", err, out)
	}
	return state.PID
}
