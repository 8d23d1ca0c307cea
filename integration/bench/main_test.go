// Package bench measures the built huptime with real services. Every figure is a ratio or a difference of two that were taken in turns in
// one run on one machine; BENCHMARKS.md has those of one, and says what made them.
package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What TestMain found and built.
var (
	huptime  string // the binary that is measured
	goserver string // a static Go service
	prefork  string // a C service of many processes
	calls    string // a C program that times system calls
	client   string // a C program that makes requests
	floor    string // a C supervisor that lets every accept go on
	binds    string // a C program that times its binds
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "huptime-bench")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
		printTables()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) error {
	if huptime = os.Getenv("HUPTIME_BIN"); huptime == "" {
		return fmt.Errorf("HUPTIME_BIN names no binary: use make bench")
	}
	goserver = filepath.Join(dir, "goserver")
	prefork = filepath.Join(dir, "prefork")
	calls = filepath.Join(dir, "calls")
	client = filepath.Join(dir, "load")
	floor = filepath.Join(dir, "floor")
	binds = filepath.Join(dir, "binds")
	for _, cmd := range []*exec.Cmd{
		exec.Command("go", "build", "-buildvcs=false", "-o", goserver, "github.com/huptime/huptime/integration/suite/goserver"),
		exec.Command("gcc", "-O2", "-Wall", "-o", prefork, "testdata/prefork.c"),
		exec.Command("gcc", "-O2", "-Wall", "-o", calls, "testdata/calls.c"),
		exec.Command("gcc", "-O2", "-Wall", "-o", client, "testdata/load.c"),
		exec.Command("gcc", "-O2", "-Wall", "-o", floor, "testdata/floor.c", "-lseccomp"),
		exec.Command("gcc", "-O2", "-Wall", "-o", binds, "testdata/binds.c"),
	} {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return nil
}
