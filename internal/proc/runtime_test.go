package proc

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRunTime(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := RunTime(os.Getpid(), unix.Gettid())
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(10 * time.Second); ; {
		now, err := RunTime(os.Getpid(), unix.Gettid())
		if err != nil {
			t.Fatal(err)
		}
		if now > before {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("it does not grow")
		}
	}
	if _, err := RunTime(os.Getpid(), 1<<30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no thread: %v", err)
	}
	for text, want := range map[string]time.Duration{"123 4 5\n": 123, "0 0 0\n": 0} {
		if got, err := parseRunTime([]byte(text)); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x 1 2", "-1 0 0", "12", "99999999999999999999 1 1"} {
		if got, err := parseRunTime([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
