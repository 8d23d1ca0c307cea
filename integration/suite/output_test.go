package suite

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutputFile: what generations write to a file that huptime was started with (> file) comes one after the other; nothing is overwritten, and
// the end that they share stays where it is.
func TestOutputFile(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := python(t, "thread")
		s.command = append([]string{"/bin/sh", "-c", `echo "start of $$"; exec "$@"`, "sh"}, s.command...)
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fmt.Fprintln(file, "written before")
		h := start(t, append([]string{"--track=" + level}, s.command...), func(c *exec.Cmd) { c.Stdout = file })
		h.await("generation ready", 1)
		const restarts = 5
		var want strings.Builder
		want.WriteString("written before\n")
		for i := range restarts + 1 {
			if i > 0 {
				h.hup()
				h.await("restart finished", i+1)
			}
			fmt.Fprintf(&want, "start of %d\n", h.await("generation started", i+1).PID)
		}
		if at, err := file.Seek(0, io.SeekCurrent); err != nil || at != int64(want.Len()) {
			t.Errorf("the offset is %d, want %d; %v", at, want.Len(), err)
		}
		got, err := os.ReadFile(file.Name())
		if err != nil || string(got) != want.String() {
			t.Errorf("%q, want %q; %v", got, want.String(), err)
		}
	})
}

// TestOutputPipe: a pipe that huptime was started with closes when the service has ended, and not later: nobody keeps its other end.
func TestOutputPipe(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		s := python(t, "thread")
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		h := start(t, append([]string{"--track=" + level, "--revive", "--", "/bin/sh", "-c", `echo begun; exec "$@"`, "sh"}, s.command...),
			func(c *exec.Cmd) { c.Stdout = write })
		write.Close()
		lines := bufio.NewReader(read)
		for i := range 3 {
			if line, err := lines.ReadString('\n'); err != nil || line != "begun\n" {
				t.Fatalf("%q, %v", line, err)
			}
			h.await("generation ready", i+1)
			h.hup()
		}
		h.await("restart finished", 4)
		h.signal(15)
		h.exit()
		rest, err := io.ReadAll(lines)
		if err != nil || string(rest) != "begun\n" {
			t.Errorf("%q, %v", rest, err)
		}
	})
}
