package notify

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// ErrLongPath says that a path of the caller's does not end within PATH_MAX bytes. The kernel would answer ENAMETOOLONG.
var ErrLongPath = errors.New("path too long")

// smallestPage divides every page size there is: memory that can be read at one byte can be read up to the next multiple.
const smallestPage = 4096

// ReadPath copies a path at addr of the caller's address space: up to its NUL, at most PATH_MAX bytes with it, and
// not beyond the page where it ends, because the next one need not be there. Its bytes are the caller's: any but
// NUL, and it may be empty. The error matches [ErrLongPath] or is one of [Request.ReadMemory]'s.
func (r *Request) ReadPath(addr uint64) (string, error) { return readPath(addr, r.ReadMemory) }

func readPath(addr uint64, read func(addr uint64, buf []byte) error) (string, error) {
	path := make([]byte, 0, 256)
	for len(path) < unix.PathMax {
		n := pathPiece(addr+uint64(len(path)), unix.PathMax-len(path))
		piece := make([]byte, n)
		if err := read(addr+uint64(len(path)), piece); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(piece, 0); end >= 0 {
			return string(append(path, piece[:end]...)), nil
		}
		path = append(path, piece...)
	}
	return "", ErrLongPath
}

// pathPiece is how much may be read at addr, where left bytes of a path may follow: up to the page's end. Nearly all paths are
// short, so that little is copied in vain.
func pathPiece(addr uint64, left int) int {
	const enough = 256
	return min(left, enough, int(smallestPage-addr%smallestPage))
}

// decodePaths presents the older calls as the newer ones, which have all their arguments.
func (r *Request) decodePaths() {
	const workingDirectory = ^uint64(-unix.AT_FDCWD - 1) // AT_FDCWD, -100
	if _, plain := plainPathCalls[r.Arch][r.Number]; plain {
		from, to := r.Args[0], r.Args[1]
		r.Args = [6]uint64{workingDirectory, from}
		if r.Call == CallRename {
			r.Args = [6]uint64{workingDirectory, from, workingDirectory, to}
		}
	} else if _, ok := renameatNumbers[r.Arch][r.Number]; ok {
		r.Args[4] = 0 // not an argument of the call: what is in the register is anything
	}
}
