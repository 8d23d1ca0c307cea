package suite

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// deafFS is a FUSE file system (Documentation/filesystems/fuse.rst and include/uapi/linux/fuse.h of the kernel) with one file that can be opened;
// whoever closes it, or asks for an extended attribute of it, waits until the file system is gone.
type deafFS struct {
	dir  string
	fd   int // of /dev/fuse; owned
	done sync.WaitGroup
	once sync.Once
}

// mountDeaf mounts one, until the test ends or end is called.
func mountDeaf(t *testing.T) *deafFS {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("unsupported here: /dev/fuse: %v", err)
	}
	f := &deafFS{dir: t.TempDir(), fd: fd}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	if err := unix.Mount("deaf", f.dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		t.Skipf("unsupported here: mounting a FUSE file system: %v", err)
	}
	f.done.Go(f.serve)
	t.Cleanup(f.end)
	return f
}

func (f *deafFS) file() string { return filepath.Join(f.dir, "file") }

// end lets everybody go who waits.
func (f *deafFS) end() {
	f.once.Do(func() {
		_ = unix.Unmount(f.dir, unix.MNT_FORCE|unix.MNT_DETACH) // the first of them aborts what is under way
		f.done.Wait()
		unix.Close(f.fd)
	})
}

// serve answers until the file system is gone.
func (f *deafFS) serve() {
	const lookup, getattr, open, flush, getxattr, initialize, forget = 1, 3, 14, 25, 22, 26, 2
	const root, file = 1, 2
	attributes := func(node uint64) []byte {
		b := make([]byte, 88)
		mode := uint32(unix.S_IFREG | 0o644)
		if node == root {
			mode = unix.S_IFDIR | 0o755
		}
		binary.NativeEndian.PutUint64(b, node)
		binary.NativeEndian.PutUint32(b[60:], mode)
		binary.NativeEndian.PutUint32(b[64:], 1) // links
		return b
	}
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(f.fd, buf)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return // ENODEV: unmounted
		}
		unique, node := binary.NativeEndian.Uint64(buf[8:]), binary.NativeEndian.Uint64(buf[16:])
		errno, body := unix.Errno(0), []byte(nil)
		switch binary.NativeEndian.Uint32(buf[4:]) {
		case flush, getxattr, forget:
			continue // no answer
		case initialize:
			body = make([]byte, 64)
			binary.NativeEndian.PutUint32(body, 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
			binary.NativeEndian.PutUint32(body[20:], 4096) // the longest write
		case lookup:
			body = append(make([]byte, 40), attributes(file)...)
			binary.NativeEndian.PutUint64(body, file)
		case getattr:
			body = append(make([]byte, 16), attributes(node)...)
		case open:
			body = make([]byte, 16)
		default:
			errno = unix.ENOSYS
		}
		head := make([]byte, 16)
		binary.NativeEndian.PutUint32(head, uint32(16+len(body)))
		binary.NativeEndian.PutUint32(head[4:], uint32(-int32(errno)))
		binary.NativeEndian.PutUint64(head[8:], unique)
		unix.Write(f.fd, append(head, body...))
	}
}

// TestFaultD6FUSE: a service calls bind with a descriptor of a file system that does not answer when a file is closed. Its listener is not kept waiting
// for that, with pidfd_getfd or without.
func TestFaultD6FUSE(t *testing.T) {
	for _, deny := range []string{"", "pidfd_getfd"} {
		t.Run("without "+deny, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				fs := mountDeaf(t)
				s := waits(t, "accept", 0)
				port := s.addr[strings.LastIndexByte(s.addr, ':')+1:]
				link := filepath.Join(t.TempDir(), "file")
				s.command = append([]string{compiled(t, "oddbind"), link, port}, s.command...)
				h := start(t, append([]string{"--track=" + level, "--ready-timeout=10s", "--"}, s.command...), denied(deny, unix.EPERM))
				t.Cleanup(fs.end) // before huptime is told to end
				h.await("generation ready", 1)
				if err := os.Symlink(fs.file(), link); err != nil {
					t.Fatal(err)
				}
				write(t, s.version, "2")
				h.hup()
				h.await("restart finished", 2)
				if said := h.awaitOutput("oddbind: bind:"); !strings.Contains(said, unix.ENOTSOCK.Error()) && !strings.Contains(said, "non-socket") {
					t.Errorf("the service says %q", said)
				}
				h.await("generation ended", 1)
				if r := s.mustAnswer(t); r.version != "2" {
					t.Errorf("version %s answers", r.version)
				}
			})
		})
	}
}
