package proc

import (
	"errors"
	"os"
	"testing"
)

func TestParseFilters(t *testing.T) {
	for content, want := range map[string]int{
		"":                                   0,
		"Name:\tx\nSeccomp:\t2\n":            0,
		"Seccomp:\t2\nSeccomp_filters:\t3\n": 3,
		"Seccomp_filters:\t0\n":              0,
		"Seccomp_filters:\t12":               12,
	} {
		if got, err := parseFilters([]byte(content)); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", content, got, err, want)
		}
	}
	for _, content := range []string{"Seccomp_filters:", "Seccomp_filters:\t-1\n", "Seccomp_filters:\tx\n", "Seccomp_filters:\t1x\n"} {
		if got, err := parseFilters([]byte(content)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %d, %v", content, got, err)
		}
	}
}

func TestFilters(t *testing.T) {
	if _, err := Filters(os.Getpid()); err != nil {
		t.Error(err)
	}
	if _, err := Filters(1 << 22); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a process that is not there: %v", err)
	}
}
