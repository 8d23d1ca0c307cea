package notify

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// All calls that take a name out of a directory are seen as the two that have all arguments.
func TestDecodePaths(t *testing.T) {
	t.Parallel()
	const here = 0xffffffffffffff9c // AT_FDCWD
	given := [6]uint64{11, 12, 13, 14, 15, 16}
	plainUnlink, plainRename := [6]uint64{here, 11}, [6]uint64{here, 11, here, 12}
	renameat := [6]uint64{11, 12, 13, 14, 0, 16}
	for _, test := range []struct {
		abi  abi
		name string
		call Call
		want [6]uint64
	}{
		{amd64ABI, "unlink", CallUnlink, plainUnlink}, {amd64ABI, "unlinkat", CallUnlink, given},
		{amd64ABI, "rename", CallRename, plainRename}, {amd64ABI, "renameat", CallRename, renameat}, {amd64ABI, "renameat2", CallRename, given},
		{x32ABI, "unlink", CallUnlink, plainUnlink}, {x32ABI, "unlinkat", CallUnlink, given},
		{x32ABI, "rename", CallRename, plainRename}, {x32ABI, "renameat", CallRename, renameat}, {x32ABI, "renameat2", CallRename, given},
		{i386ABI, "unlink", CallUnlink, plainUnlink}, {i386ABI, "unlinkat", CallUnlink, given},
		{i386ABI, "rename", CallRename, plainRename}, {i386ABI, "renameat", CallRename, renameat}, {i386ABI, "renameat2", CallRename, given},
		{arm64ABI, "unlinkat", CallUnlink, given}, {arm64ABI, "renameat", CallRename, renameat}, {arm64ABI, "renameat2", CallRename, given},
		{armABI, "unlink", CallUnlink, plainUnlink}, {armABI, "unlinkat", CallUnlink, given},
		{armABI, "rename", CallRename, plainRename}, {armABI, "renameat", CallRename, renameat}, {armABI, "renameat2", CallRename, given},
	} {
		r := Request{Arch: test.abi.arch, Number: int32(test.abi.numbers[test.name] | test.abi.bit), Args: given}
		r.decode()
		if r.Call != test.call || r.Args != test.want {
			t.Errorf("%s %s: %v of %v, want %v of %v", test.abi.name, test.name, r.Call, r.Args, test.call, test.want)
		}
		if test.want[0] == here && r.FD() != unix.AT_FDCWD {
			t.Errorf("%s %s: directory %d", test.abi.name, test.name, r.FD())
		}
	}
}

// What is asked about arrives, and what is not done is not done.
func TestUnlinkIsAskedAbout(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	missing := append([]byte(t.TempDir()+"/missing"), 0)
	for _, test := range []struct {
		name   string
		number uintptr
		args   []any
		call   Call
		paths  []int // which arguments of the decoded call are paths
	}{
		{"unlinkat", unix.SYS_UNLINKAT, []any{unix.AT_FDCWD, missing, 0}, CallUnlink, []int{1}},
		{"renameat", unix.SYS_RENAMEAT, []any{unix.AT_FDCWD, missing, unix.AT_FDCWD, missing}, CallRename, []int{1, 3}},
		{"renameat2", unix.SYS_RENAMEAT2, []any{unix.AT_FDCWD, missing, unix.AT_FDCWD, missing, 0}, CallRename, []int{1, 3}},
	} {
		var seen []string
		h.take(func(r *Request) Reply {
			if r.Call != test.call {
				return Continue()
			}
			for _, i := range test.paths {
				path, err := r.ReadPath(r.Args[i])
				if err != nil {
					path = err.Error()
				}
				seen = append(seen, path)
			}
			return Return(0)
		})
		if got := p.Call(t, 1, test.number, test.args...); got.Errno != 0 {
			t.Errorf("%s: %v, want success without doing it", test.name, got.Errno)
		}
		h.take(func(*Request) Reply { return Continue() })
		if len(seen) != len(test.paths) {
			t.Errorf("%s: saw %q", test.name, seen)
		}
		for _, path := range seen {
			if path != string(missing[:len(missing)-1]) {
				t.Errorf("%s: path %q", test.name, path)
			}
		}
		if got := p.Call(t, 1, test.number, test.args...); got.Errno != unix.ENOENT {
			t.Errorf("%s, let through: %v", test.name, got.Errno)
		}
	}
}

// A path ends where it ends: nothing behind it need be there.
func TestReadPath(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	// Four pages, of which the last is taken away again.
	const pages = 4
	at := p.Must(t, 0, unix.SYS_MMAP, 0, pages*smallestPage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON, -1, 0)
	end := at + (pages-1)*smallestPage
	p.Must(t, 0, unix.SYS_MUNMAP, end, smallestPage)
	pair := p.Call(t, 0, unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, make([]byte, 8))
	put := func(addr int, b []byte) {
		p.Must(t, 0, unix.SYS_WRITE, int(pair.Memory[3][4]), b, len(b))
		p.Must(t, 0, unix.SYS_READ, int(pair.Memory[3][0]), addr, len(b))
	}
	path := func(n int) string { return strings.Repeat("/abcdefg", n/8+1)[:n] }
	for _, test := range []struct {
		name string
		addr int
		path string
		open bool // no NUL behind it
		want error
	}{
		{"short", at, "x", false, nil},
		{"empty", at, "", false, nil},
		{"any bytes", at, "\xff\n\x01 /", false, nil},
		{"up to the end of what is there", end - 8, path(7), false, nil},
		{"over a page's end", at + smallestPage - 3, path(300), false, nil},
		{"as long as may be", at, path(unix.PathMax - 1), false, nil},
		{"as long as may be, at an odd place", at + 77, path(unix.PathMax - 1), false, nil},
		{"too long", at, path(unix.PathMax), false, ErrLongPath},
		{"runs into what is not there", end - 8, path(8), true, unix.EFAULT},
		{"nowhere", 16, "", true, unix.EFAULT},
		{"at the end of all memory", -1, "", true, unix.EFAULT},
	} {
		if !test.open {
			put(test.addr, append([]byte(test.path), 0))
		} else if test.path != "" {
			put(test.addr, []byte(test.path))
		}
		var got string
		err := errors.New("not asked")
		h.take(func(r *Request) Reply {
			got, err = r.ReadPath(r.Args[1])
			return Return(0)
		})
		p.Must(t, 1, unix.SYS_UNLINKAT, -1, test.addr, 0)
		h.take(nil)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if test.want == nil && got != test.path {
			t.Errorf("%s: %d bytes %q, want %d bytes", test.name, len(got), got[:min(20, len(got))], len(test.path))
		}
	}
}

// However a path lies in memory, its pieces make up PATH_MAX bytes, none of them beyond a page's end.
func FuzzPathPiece(f *testing.F) {
	f.Add(uint64(0), uint16(0))
	f.Add(^uint64(0), uint16(1))
	f.Add(uint64(smallestPage-1), uint16(unix.PathMax))
	f.Fuzz(func(t *testing.T, addr uint64, left uint16) {
		limit := int(left)%unix.PathMax + 1
		var all []byte
		for len(all) < limit {
			n := pathPiece(addr+uint64(len(all)), limit-len(all))
			first := addr + uint64(len(all))
			if n < 1 || n > limit-len(all) || first/smallestPage != (first+uint64(n)-1)/smallestPage {
				t.Fatalf("%d bytes at %#x", n, first)
			}
			all = append(all, bytes.Repeat([]byte{1}, n)...)
		}
	})
}
