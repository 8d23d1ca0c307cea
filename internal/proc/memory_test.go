package proc

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	at := addressOf(page)
	if err := WriteMemory(os.Getpid(), at, []byte("huptime")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if err := ReadMemory(os.Getpid(), at, got); err != nil || !bytes.Equal(got, page[:7]) || string(got) != "huptime" {
		t.Errorf("%q, %v", got, err)
	}
	if err := ReadMemory(os.Getpid(), at, nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if err := ReadMemory(os.Getpid(), 0, got); !errors.Is(err, unix.EFAULT) {
		t.Errorf("no memory: %v", err)
	}
	if err := ReadMemory(1<<22+1, at, got); !errors.Is(err, unix.ESRCH) {
		t.Errorf("no process: %v", err)
	}
}
