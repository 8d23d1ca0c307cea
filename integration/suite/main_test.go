// Package suite runs the built huptime with real services under real load.
package suite

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What TestMain built.
var (
	huptime  string // the binary under test
	goserver string // the static Go service
)

func TestMain(m *testing.M) {
	if how := os.Getenv("SUITE_DENY"); how != "" {
		denyAndExec(how, os.Args[1:])
	}
	dir, err := os.MkdirTemp("", "huptime-suite")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.RemoveAll(dir)
		os.Exit(1)
	}
	go watchMemory() // ends with the process
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/huptime/huptime/integration/suite.watchMemory"), goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// watchMemory ends the tests, and says where they are, before they take what the machine has: with it go all other programs on it.
func watchMemory() {
	const (
		most  = 4 << 30
		every = time.Second
	)
	for range time.Tick(every) {
		var m runtime.MemStats
		if runtime.ReadMemStats(&m); m.HeapAlloc > most {
			debug.SetTraceback("all")
			panic(fmt.Sprintf("the tests take %d MiB of memory", m.HeapAlloc>>20))
		}
	}
}

func build(dir string) error {
	goserver = filepath.Join(dir, "goserver")
	if err := goBuild(goserver, "./goserver", []string{"CGO_ENABLED=0"}); err != nil {
		return err
	}
	if huptime = os.Getenv("HUPTIME_BIN"); huptime != "" {
		return nil
	}
	huptime = filepath.Join(dir, "huptime")
	return goBuild(huptime, "github.com/huptime/huptime/cmd/huptime", []string{"CGO_ENABLED=1"},
		"-tags", "netgo,osusergo", "-ldflags", `-s -w -linkmode external -extldflags "-static"`)
}

func goBuild(to, pkg string, env []string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", to}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", pkg, err, out)
	}
	return nil
}
