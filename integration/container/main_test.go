// Package container runs the built huptime as PID 1 of containers: bundles that the tests make, under the OCI
// runtimes runc and crun, with the seccomp profile that Docker and containerd have by default.
package container

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// What TestMain built.
var (
	huptime  string // the binary under test
	goserver string // the static Go service
	inside   string // the static program of chores
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "huptime-container")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.RemoveAll(dir)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func build(dir string) error {
	goserver, inside = filepath.Join(dir, "goserver"), filepath.Join(dir, "inside")
	if err := goBuild(goserver, "github.com/huptime/huptime/integration/suite/goserver", "CGO_ENABLED=0"); err != nil {
		return err
	}
	if err := goBuild(inside, "github.com/huptime/huptime/integration/container/inside", "CGO_ENABLED=0"); err != nil {
		return err
	}
	if huptime = os.Getenv("HUPTIME_BIN"); huptime != "" {
		return nil
	}
	huptime = filepath.Join(dir, "huptime")
	return goBuild(huptime, "github.com/huptime/huptime/cmd/huptime", "CGO_ENABLED=1",
		"-tags", "netgo,osusergo", "-ldflags", `-s -w -linkmode external -extldflags "-static"`)
}

func goBuild(to, pkg, env string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", to}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// missing skips the test for lack of something, or fails it where everything should be there.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("HUPTIME_TEST_STRICT") != "" {
		t.Fatal(what)
	}
	t.Skip("unsupported here: " + what)
}
