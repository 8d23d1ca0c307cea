package leak

import (
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

func TestSince(t *testing.T) {
	before := Open()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	left := Since(before)
	if len(left) != 2 || !strings.Contains(left[0], "pipe:[") {
		t.Errorf("%q, want the two ends of a pipe", left)
	}
	// Closed, and something else at the same number.
	before = Open()
	fd := int(r.Fd())
	r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if int(null.Fd()) == fd && len(Since(before)) != 1 {
		t.Errorf("%q, want the one that is another file now", Since(before))
	}
	null.Close()
	w.Close()
}

// tests are some that were run.
type tests func() int

func (f tests) Run() int { return f() }

func TestStatus(t *testing.T) {
	if got := Run(tests(func() int { return 0 })); got != 0 {
		t.Errorf("nothing is left: %d", got)
	}
	if got := Run(tests(func() int { return 2 })); got != 2 {
		t.Errorf("tests failed: %d", got)
	}
	var left *os.File
	if got := Run(tests(func() int { left, _ = os.Open(os.DevNull); return 0 })); got != 1 {
		t.Errorf("a descriptor is left: %d", got)
	}
	left.Close()
}
