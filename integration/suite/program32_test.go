package suite

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Test32Bit: services of the 32-bit x86 ABI, which bind through socketcall(2) and wait in every way.
func Test32Bit(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("unsupported here: i386 programs run on amd64 kernels")
	}
	services := map[string]func(t *testing.T) service{
		"go":     golang32,
		"accept": func(t *testing.T) service { return naive32(t, "accept") },
		"poll":   func(t *testing.T) service { return naive32(t, "poll") },
		"epoll":  func(t *testing.T) service { return naive32(t, "epoll") },
	}
	for name, make := range services {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				restarts := 10
				if name == "go" {
					restarts = 20
				}
				s := make(t)
				h := s.run(t, level)
				h.restartsUnderLoad(s, restarts, name+" at "+level, "a process can't be made to stop accepting: it is retired by its stop signal alone")
				h.mu.Lock()
				defer h.mu.Unlock()
				for _, line := range h.output {
					if level == "listeners" && strings.HasPrefix(line, "EINTR") {
						t.Errorf("the service saw %s", line)
					}
				}
			})
		})
	}
}

// runs32 skips the test where the kernel runs no 32-bit programs.
func runs32(t *testing.T, binary string) {
	t.Helper()
	// Without arguments both end at once, one way or another; execve(2) says ENOEXEC where there is no
	// CONFIG_IA32_EMULATION.
	if err := exec.Command(binary, "-h").Run(); errors.Is(err, syscall.ENOEXEC) {
		missing(t, "the kernel runs no 32-bit programs: "+err.Error())
	}
}

func golang32(t *testing.T) service {
	t.Helper()
	s := golang(t)
	s.command[0] = filepath.Join(t.TempDir(), "goserver32")
	if err := goBuild(s.command[0], "./goserver", []string{"CGO_ENABLED=0", "GOARCH=386"}); err != nil {
		t.Fatal(err)
	}
	runs32(t, s.command[0])
	return s
}

func naive32(t *testing.T, how string) service {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "server32")
	if out, err := exec.Command(program(t, "gcc"), "-m32", "-nostdlib", "-static", "-no-pie", "-ffreestanding", "-fno-stack-protector",
		"-O1", "-Wall", "-o", binary, "testdata/server32.c").CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("gcc makes no 32-bit programs: %v\n%s", err, out))
	}
	runs32(t, binary)
	port := freePort(t)
	return service{
		name:    "naive32-" + how,
		command: []string{binary, strconv.Itoa(port), how},
		addr:    fmt.Sprintf("127.0.0.1:%d", port),
		ask:     askHTTP,
	}
}
