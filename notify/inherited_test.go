package notify

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/leak"
)

// inheritorName starts this binary to say what [Inherited] finds.
const inheritorName = "inheritor"

func runInheritor() int {
	// Descriptors of one's own are close-on-exec, and not inherited.
	own, err := os.Open("/dev/null")
	if err != nil {
		return 1
	}
	defer own.Close()
	for range 2 {
		inherited, err := Inherited()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		slices.Sort(inherited)
		for _, fd := range inherited {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			fmt.Print(fd, " ", flags, " ", err, ",")
		}
		fmt.Println()
	}
	return 0
}

func TestInherited(t *testing.T) {
	t.Parallel()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, test := range []struct {
		files []*os.File
		want  string
	}{
		{nil, ""},
		{[]*os.File{null}, "3 1 <nil>,"},
		{[]*os.File{nil, null, nil, null}, "4 1 <nil>,6 1 <nil>,"},
	} {
		// What started the tests may have left descriptors open for everybody.
		r := runCommand(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = test.files }, self(t), inheritorName)
		lines := strings.Split(r.stdout, "\n")
		if r.code != 0 || len(lines) != 3 {
			t.Fatalf("%+v", r)
		}
		for fd := range leak.Open() {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 && fd > 2+len(test.files) {
				lines[0] = strings.Replace(lines[0], fmt.Sprintf("%d 1 <nil>,", fd), "", 1)
			}
		}
		if lines[0] != test.want {
			t.Errorf("inherited %q, want %q", lines[0], test.want)
		}
		if lines[1] != "" {
			t.Errorf("and again %q", lines[1])
		}
	}
}
