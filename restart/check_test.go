package restart

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line  string
		shell bool
		want  []string
	}{
		{"nginx -t", true, []string{"/bin/sh", "-c", "nginx -t"}},
		{"a | b", true, []string{"/bin/sh", "-c", "a | b"}},
		{" nginx  -t\t-c x ", false, []string{"nginx", "-t", "-c", "x"}},
		{"/a/b=c:d,e+f@g%h", false, []string{"/a/b=c:d,e+f@g%h"}},
		{"a | b", false, nil},
		{"a 'b c'", false, nil},
		{"a $B", false, nil},
		{"a\nb", false, nil},
	} {
		got, err := checkCommand(test.line, test.shell)
		if (err == nil) != (test.want != nil) || !slices.Equal(got, test.want) {
			t.Errorf("%q, shell %v: %q, %v; want %q", test.line, test.shell, got, err, test.want)
		}
		if err != nil && (!strings.Contains(err.Error(), shell) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: %v", test.line, err)
		}
	}
}

func TestLastOf(t *testing.T) {
	t.Parallel()
	text := []byte(strings.Repeat("x", maxCheckOutput) + "end")
	if got := lastOf(text); len(got) != maxCheckOutput || !strings.HasSuffix(string(got), "xend") {
		t.Errorf("%d bytes", len(got))
	}
	if got := lastOf([]byte("short")); string(got) != "short" {
		t.Errorf("%q", got)
	}
}

func TestUnlink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	prepare := func() {
		t.Helper()
		for _, name := range []string{"regular", "target"} {
			if err := os.WriteFile(at(name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("target", at("link")); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0); err != nil {
			t.Fatal(err)
		}
	}
	left := func() string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	if err := os.Mkdir(at("directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	prepare()
	files, log := make(removals), slog.New(slog.DiscardHandler)
	defer files.close()
	for name, says := range map[string]string{"directory": "a directory", "fifo": "a FIFO", "regular/below": "not a directory"} {
		err := files.remove([]string{at("regular"), at(name)}, log)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), at(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := left(); got != "directory fifo link regular socket target" {
		t.Errorf("after refusals there is %s", got)
	}
	if err := files.remove([]string{at("regular"), at("link"), at("missing"), at("missing/below"), at("socket"), at("regular")}, log); err != nil {
		t.Error(err)
	}
	if got := left(); got != "directory fifo target" {
		t.Errorf("there is %s", got)
	}
}
