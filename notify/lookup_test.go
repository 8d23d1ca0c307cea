package notify

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Not parallel: it sets PATH and the working directory.
func TestLookup(t *testing.T) {
	root := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"a/plain": 0o644, "b/plain": 0o755, "a/only": 0o644, "b/tool": 0o755, "here": 0o755, "a/dir/tool": 0o755,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"b/link": root + "/b/tool", "b/broken": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(root)
	a, b := root+"/a", root+"/b"
	for _, test := range []struct {
		path, command, want string
		errno               unix.Errno
	}{
		{a + ":" + b, "tool", b + "/tool", 0},
		{a + ":" + b, "plain", b + "/plain", 0}, // the first one may not be executed
		{a + ":" + b, "only", "", unix.EACCES},
		{a + ":" + b, "dir", "", unix.EACCES},
		{a + ":" + b, "missing", "", unix.ENOENT},
		{a + ":" + b, "link", b + "/link", 0},
		{a + ":" + b, "broken", "", unix.ENOENT},
		{a + ":" + b, "here", "", unix.ENOENT},
		{a + "::" + b, "here", "./here", 0},
		{":" + a, "here", "./here", 0},
		{".", "here", "./here", 0},
		{"b", "tool", "b/tool", 0},
		{"/no/such/directory:" + b + "/tool:" + b, "tool", b + "/tool", 0},
		{a, "./here", "./here", 0},
		{a, "b/tool", "b/tool", 0},
		{a, a + "/plain", a + "/plain", unix.EACCES},
		{a, a + "/missing", a + "/missing", unix.ENOENT},
		{a, b + "/tool/below", b + "/tool/below", unix.ENOTDIR},
	} {
		t.Setenv("PATH", test.path)
		if got, errno := lookup(test.command); got != test.want || errno != test.errno {
			t.Errorf("%s in %s: %q, %v; want %q, %v", test.command, test.path, got, errno, test.want, test.errno)
		}
	}
	if err := os.Unsetenv("PATH"); err != nil { // Setenv above restores it
		t.Fatal(err)
	}
	if got, errno := lookup("sh"); errno != 0 || filepath.Base(got) != "sh" {
		t.Errorf("without PATH: %q, %v", got, errno)
	}
}
