// Testlog reads the output of `go test -json` and makes a short report of it: a line for each package, the output of
// failed tests, and of what was skipped. The whole output goes, as text, to the log file that is its argument.
//
// It fails if a test failed. It also fails if a test was skipped for a reason that does not begin with
// "unsupported here:", for such a test could have run, and a check that quietly checks less is worth nothing.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// unsupported is how a test marks that it was a probe of the kernel or the container which made it skip.
const unsupported = "unsupported here:"

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // instead of Package, in what the compiler prints
	Test       string
	Output     string
}

type report struct {
	out, log io.Writer
	pending  map[string]*strings.Builder // output of what has not ended, by package and test
	skipped  []string                    // tests that could have run
	failed   bool
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ... | testlog LOGFILE")
		os.Exit(2)
	}
	file, err := os.Create(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(2)
	}
	defer file.Close()
	r := &report{out: os.Stdout, log: file, pending: map[string]*strings.Builder{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(2)
	}
	if !r.finish() {
		os.Exit(1)
	}
}

// read takes in everything up to the end of the input.
func (r *report) read(input io.Reader) error {
	lines := bufio.NewReader(input)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		// Not an event: something wrote past the test framework. Better seen than lost.
		io.WriteString(r.log, line)
		io.WriteString(r.out, line)
		return
	}
	io.WriteString(r.log, e.Output)
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if e.Test == "" && isResult(e.Output) {
			io.WriteString(r.out, e.Output)
			return
		}
		if r.pending[key] == nil {
			r.pending[key] = &strings.Builder{}
		}
		r.pending[key].WriteString(e.Output)
	case "build-output":
		io.WriteString(r.out, e.Output)
	case "pass":
		delete(r.pending, key)
	case "skip":
		r.skip(e, key)
	case "fail", "build-fail":
		r.failed = true
		r.flush(key)
		if e.Test == "" {
			r.flushUnfinished(e.Package)
		}
	}
}

// isResult tells whether a package's line is the one that sums it up.
func isResult(line string) bool {
	for _, start := range []string{"ok  \t", "FAIL\t", "?   \t", "---"} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return false
}

// skip judges a skipped test by what it said. A package without tests is skipped as well, with no test's name.
func (r *report) skip(e event, key string) {
	said := ""
	if b := r.pending[key]; b != nil {
		said = b.String()
	}
	delete(r.pending, key)
	if e.Test == "" {
		return
	}
	reason := "no reason given"
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			reason = line
		}
	}
	if strings.Contains(said, unsupported) {
		fmt.Fprintf(r.out, "skipped %s: %s\n", key, reason)
		return
	}
	r.skipped = append(r.skipped, key+": "+reason)
}

// flush prints and forgets what a test wrote.
func (r *report) flush(key string) {
	if b := r.pending[key]; b != nil {
		io.WriteString(r.out, b.String())
		delete(r.pending, key)
	}
}

// flushUnfinished prints the tests that a panic, a timeout or an exit cut short: they have no end of their own.
func (r *report) flushUnfinished(pkg string) {
	var keys []string
	for key := range r.pending {
		if strings.HasPrefix(key, pkg+" ") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		r.flush(key)
	}
}

// finish prints the verdict and tells whether it is good.
func (r *report) finish() bool {
	for _, s := range r.skipped {
		fmt.Fprintf(r.out, "FAIL: skipped, though it could have run: %s\n", s)
	}
	return !r.failed && len(r.skipped) == 0
}
