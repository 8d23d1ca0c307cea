package remote

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"huptime/internal/leak"
)

// TestMain lets the test binary be the programs that are frozen: the real kernel, and real processes.
func TestMain(m *testing.M) {
	if name := os.Getenv("REMOTE_TEST_PROGRAM"); name != "" {
		program, ok := programs[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such program:", name)
			os.Exit(99)
		}
		program()
		os.Exit(0)
	}
	os.Exit(leak.Run(m))
}

// target is a running program. It is ended when the test is.
type target struct {
	*exec.Cmd
	t     *testing.T
	lines chan string
	in    *os.File
}

func start(t *testing.T, name string) *target {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "REMOTE_TEST_PROGRAM="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = read
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read.Close()
	p := &target{Cmd: cmd, t: t, lines: make(chan string, 1000), in: write}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(func() {
		write.Close()
		cmd.Process.Kill()
		for range p.lines { // so that the reader never waits
		}
		<-done
		cmd.Wait()
	})
	return p
}

// expect waits for a line that begins with prefix and returns the rest.
func (p *target) expect(prefix string) string {
	p.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the program ended without saying %q", prefix)
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return strings.TrimSpace(rest)
			}
		case <-limit:
			p.t.Fatalf("the program did not say %q", prefix)
		}
	}
}

// tell lets the program go on.
func (p *target) tell() {
	p.t.Helper()
	if _, err := p.in.WriteString("\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *target) freeze() *Frozen {
	p.t.Helper()
	f, err := Freeze(p.Process.Pid, 5*time.Second)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}
