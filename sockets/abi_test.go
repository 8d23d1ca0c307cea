package sockets

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/remote"
	"github.com/huptime/huptime/sockets/fdpass"
	"github.com/huptime/huptime/sockets/waitstate"
)

// eachABI runs a test with a process of each ABI of the machine; file is its descriptor 3. lines are what it says.
func eachABI(t *testing.T, does string, test func(t *testing.T, code abi.ABI, pid int, file *os.File, lines *bufio.Scanner)) {
	architectures := map[abi.ABI]string{abi.Native: runtime.GOARCH}
	if abi.Native == abi.AMD64 {
		architectures[abi.I386] = "386"
	}
	for code, goarch := range architectures {
		t.Run(code.String(), func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "program")
			build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "github.com/huptime/huptime/internal/remote/program")
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+goarch)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
			defer ours.Close()
			cmd := exec.Command(binary, does)
			cmd.ExtraFiles = []*os.File{theirs}
			in, _ := cmd.StdinPipe()
			out, _ := cmd.StdoutPipe()
			err = cmd.Start()
			theirs.Close()
			if errors.Is(err, unix.ENOEXEC) {
				t.Skipf("unsupported here: running a program of %s: %v", code, err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				in.Close()
				cmd.Process.Kill()
				cmd.Wait()
			}()
			if got, err := proc.ABI(cmd.Process.Pid); got != code || err != nil {
				t.Errorf("the process is of %s, %v", got, err)
			}
			test(t, code, cmd.Process.Pid, ours, bufio.NewScanner(out))
		})
	}
}

// What the threads of a process wait on, by whatever call.
func TestWaitsOn(t *testing.T) {
	eachABI(t, "waits", func(t *testing.T, code abi.ABI, pid int, _ *os.File, lines *bufio.Scanner) {
		var polled, listener, limited int
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "ready") {
			fmt.Sscanf(lines.Text(), "descriptors %d %d %d", &polled, &listener, &limited)
		}
		want := []int{polled, polled, polled, polled, listener, limited} // poll, ppoll, select and pselect; accept
		slices.Sort(want)
		var got []int
		eventually(t, fmt.Sprintf("threads wait on %v", want), func() bool {
			tids, err := proc.Threads(pid)
			if err != nil {
				t.Fatal(err)
			}
			got = nil
			for _, tid := range tids {
				got = append(got, waitstate.On(pid, tid, code)...)
			}
			got = slices.DeleteFunc(got, func(fd int) bool { return !slices.Contains(want, fd) }) // others read what they have to themselves
			slices.Sort(got)
			return slices.Equal(got, want)
		})
		inode, ok, err := proc.DescriptorSocket(pid, listener)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if s := lookAt([]int{pid}, map[uint64]struct{}{inode: {}}); len(s.waiting) != 1 {
			t.Error("nobody waits on the listening socket")
		}
		f, err := remote.Freeze(pid, freezeLimit)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Thaw()
		// Two are inside accept; the runtime's other threads may be busy.
		if n := mayAccept(f); n != 2 && n != 3 {
			t.Errorf("%d threads may accept", n)
		}
	})
}

// A process is made to send a descriptor of its own.
func TestSendRemotely(t *testing.T) {
	eachABI(t, "idle", func(t *testing.T, _ abi.ABI, pid int, file *os.File, lines *bufio.Scanner) {
		lines.Scan()
		f, err := remote.Freeze(pid, freezeLimit)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Thaw()
		if err := fdpass.Send(f, 3, 3); err != nil {
			t.Fatal(err)
		}
		link, err := fdpass.LinkOf(pid, 3, fdpass.Socket)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := fdpass.Receive(int(file.Fd()), link)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		var theirs, ours unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/3", pid), &theirs); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fstat(fd, &ours); err != nil || ours.Ino != theirs.Ino {
			t.Errorf("got inode %d, want %d, %v", ours.Ino, theirs.Ino, err)
		}
		if err := fdpass.Send(f, 3, 99); err != unix.EBADF {
			t.Errorf("sending what isn't there: %v", err)
		}
	})
}
