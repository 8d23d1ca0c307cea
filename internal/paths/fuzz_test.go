package paths

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// planter makes a tree of bytes: directories, files and symbolic links in each other, by few names, so that they meet.
type planter struct {
	root  string
	dirs  []string
	bytes []byte
}

// next takes a number below limit off the bytes; 0 where there are none.
func (p *planter) next(limit int) int {
	if len(p.bytes) == 0 {
		return 0
	}
	n := int(p.bytes[0]) % limit
	p.bytes = p.bytes[1:]
	return n
}

// path takes a path: of names that there may be, of "..", and of what leads nowhere.
func (p *planter) path() string {
	parts := []string{"a", "b", "c", "d", "..", "..", ".", "", "a/b", "/"}
	var list []string
	for range 1 + p.next(5) {
		list = append(list, parts[p.next(len(parts))])
	}
	if path := strings.Join(list, "/"); path != "" {
		return path
	}
	return "/"
}

func (p *planter) plant() {
	const most = 24
	for range most {
		if len(p.bytes) == 0 {
			return
		}
		name := filepath.Join(p.dirs[p.next(len(p.dirs))], string(rune('a'+p.next(4))))
		switch p.next(5) { // what is there already stays
		case 0, 1:
			if os.Mkdir(name, 0o755) == nil {
				p.dirs = append(p.dirs, name)
			}
		case 2:
			_ = os.WriteFile(name, nil, 0o644)
		default:
			_ = os.Symlink(p.path(), name)
		}
	}
}

// Wherever links lead, up, out, round or nowhere, the walk ends where the kernel's own does, or fails for the same
// reason.
func FuzzFollow(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 3, 2, 4, 0, 1, 1, 2, 0}, "/a", "t/b")
	f.Add([]byte{0, 0, 3, 1, 1, 0, 0, 1, 3, 1, 0, 0}, "a/../b", "a")               // a and b lead to each other
	f.Add([]byte{0, 0, 0, 1, 1, 0, 2, 2, 3, 3, 4, 4, 9, 0}, "../../..", "a/b/c/a") // out of the root
	f.Add([]byte{0, 0, 2}, "a", "t/..")
	f.Add([]byte{}, "t/t", "t")
	f.Fuzz(func(t *testing.T, tree []byte, target, path string) {
		if strings.ContainsRune(target+path, 0) || len(path) >= unix.PathMax || target == "" || len(target) >= unix.PathMax {
			return
		}
		p := &planter{root: t.TempDir(), bytes: tree}
		p.dirs = []string{p.root}
		if err := os.Symlink(target, filepath.Join(p.root, "t")); err != nil {
			t.Fatal(err)
		}
		p.plant()
		for _, path := range []string{path, p.path(), "t/" + p.path(), "/a/t/" + p.path()} {
			compare(t, p.root, path)
			_, err := walkIn(t, p.root, "", path)
			if _, kernel := kernelWalk(p.root, path); kernel != nil && !errors.Is(err, kernel) {
				t.Errorf("%q: %v, the kernel: %v", path, err, kernel)
			}
		}
	})
}
