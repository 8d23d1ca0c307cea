package notify

import (
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A 32-bit program without a library. Each step exits with its own number where the answer is not what the
// test's handler gave.
const program32 = `
static int call(int n, int a, int b, int c, int d) {
	int r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return r;
}
static void check(int step, int got, int want) { if (got != want) call(1, step, 0, 0, 0); }
struct old { int handler; unsigned mask, flags; int restorer; };
struct new { int handler; unsigned flags; int restorer; unsigned mask[2]; };
void _start(void) {
	char address[16] = {2, 0, 0x12, 0x34, 127, 0, 0, 1};
	int bind[3] = {101, (int)address, 16}, listen[2] = {102, 7};
	struct old oldact = {0}, oldwas = {0};
	struct new newact = {0}, newwas = {0};
	newact.handler = oldact.handler = 0x1000;
	check(1, call(361, 100, (int)address, 16, 0), -98);
	check(2, call(102, 2, (int)bind, 0, 0), -98);
	check(3, call(363, 100, 6, 0, 0), 6);
	check(4, call(102, 4, (int)listen, 0, 0), 7);
	check(6, call(174, 1, (int)&newact, (int)&newwas, 8), 0);
	check(7, newwas.handler, 1);
	check(8, call(67, 1, (int)&oldact, (int)&oldwas, 0), 0);
	check(9, oldwas.handler, 1);
	check(10, call(48, 1, 0x1000, 0, 0), 0);
	check(11, call(174, 1, (int)&newact, 0, 8), 0);
	call(1, 42, 0, 0, 0);
}
`

func TestServe32Bit(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("unsupported here: i386 programs run on amd64 kernels")
	}
	dir := t.TempDir()
	source, binary32 := file(t, "program.c", program32, 0o644), filepath.Join(dir, "program")
	if out, err := exec.Command("gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-fno-stack-protector", "-O1",
		"-o", binary32, source).CombinedOutput(); err != nil {
		t.Skipf("unsupported here: gcc makes no 32-bit programs: %v\n%s", err, out)
	}
	if err := exec.Command(binary32).Run(); err == nil || strings.Contains(err.Error(), "exec format error") {
		t.Skipf("unsupported here: the kernel runs no 32-bit programs: %v", err)
	}
	var addresses [][]byte
	s := launchService(t, handlerFunc(func(r *Request) Reply {
		switch {
		case r.Arch != ArchI386 || !r.Compat():
			return Continue() // by the launcher, before it was this program
		case r.Call == CallBind:
			address := make([]byte, r.Args[2])
			if err := r.ReadMemory(r.Args[1], address); err != nil {
				return Fail(unix.EFAULT)
			}
			addresses = append(addresses, address)
			return Fail(unix.EADDRINUSE)
		case r.Call == CallListen:
			return Return(int64(r.Args[1]))
		case r.Call == CallSigaction || r.Call == CallOldSigaction:
			if r.Args[2] == 0 {
				return Return(0)
			}
			if err := r.WriteMemory(r.Args[2], []byte{1, 0, 0, 0}); err != nil {
				return Fail(unix.EFAULT)
			}
			return Return(0)
		}
		return Continue()
	}), nil, nil, binary32)
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.exits(t, 42)
	s.hungUp(t)
	for _, address := range addresses {
		if binary.BigEndian.Uint64(address) != 0x0200_1234_7f00_0001 {
			t.Errorf("bind of %x", address)
		}
	}
	if len(addresses) != 2 {
		t.Errorf("%d binds", len(addresses))
	}
}
