package activation

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// The test binary is a process that takes what it is handed, and says what it finds.
func TestMain(m *testing.M) {
	switch os.Getenv("ACTIVATION_TEST") {
	case "take":
		if os.Getenv("ACTIVATION_OTHER") == "" {
			os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		}
		say()
	case "stay":
		Stay()
		say()
	}
	os.Exit(m.Run())
}

func say() {
	fds, names, err := Take()
	if err != nil {
		os.Stdout.WriteString("error: " + err.Error())
	}
	for i, fd := range fds {
		os.Stdout.WriteString(strconv.Itoa(fd) + "=" + names[i] + " ")
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			os.Stdout.WriteString(v + " ")
		}
	}
	os.Exit(0)
}

func TestTake(t *testing.T) {
	t.Parallel()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, test := range []struct {
		env  []string
		want string // a part of it, where it begins with "error"
	}{
		{[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a:b"}, "3=a 4=b "},
		{[]string{"LISTEN_FDS=2", "LISTEN_PIDFDID=7"}, "3=unknown 4=unknown "},
		{[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a"}, "3=a 4=unknown "},
		{[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=a:b"}, "3=a "},
		{[]string{"LISTEN_FDS=0"}, ""},
		{[]string{"LISTEN_FDS=x"}, "error: LISTEN_FDS=\"x\" is no number"},
		{[]string{"LISTEN_FDS=-1"}, "error: LISTEN_FDS=\"-1\" is no number"},
		{nil, "error: LISTEN_FDS=\"\" is no number"},
		{[]string{"LISTEN_FDS=99999999999999999999"}, "error: LISTEN_FDS="},
		{[]string{"LISTEN_FDS=2000000000"}, "error: LISTEN_FDS=2000000000, but descriptor "},
		{[]string{"LISTEN_FDS=9223372036854775807"}, "error: LISTEN_FDS=9223372036854775807, but descriptor "},
		{[]string{"LISTEN_FDS=1", "LISTEN_PID=1", "ACTIVATION_OTHER=1"}, "LISTEN_FDS=1 LISTEN_PID=1 "},
		{[]string{"LISTEN_FDS=1", "ACTIVATION_OTHER=1"}, "LISTEN_FDS=1 "},
		{[]string{"ACTIVATION_TEST=stay", "LISTEN_FDS=1", "LISTEN_PID=" + strconv.Itoa(os.Getpid())}, "3=unknown "},
		{[]string{"ACTIVATION_TEST=stay", "LISTEN_FDS=1", "LISTEN_PID=1"}, "LISTEN_FDS=1 LISTEN_PID=1 "},
	} {
		cmd := exec.Command(os.Args[0])
		cmd.ExtraFiles = []*os.File{null, null}
		cmd.Env = append([]string{"ACTIVATION_TEST=take"}, test.env...)
		out, err := cmd.Output()
		if err != nil || string(out) != test.want && (!strings.HasPrefix(test.want, "error") || !strings.HasPrefix(string(out), test.want)) {
			t.Errorf("%q: %q, %v, want %q", test.env, out, err, test.want)
		}
	}
}

func TestHandOn(t *testing.T) {
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		t.Setenv(name, "7")
	}
	HandOn([]string{"a", "b"})
	_, left := os.LookupEnv("LISTEN_PIDFDID")
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "2" || os.Getenv("LISTEN_FDNAMES") != "a:b" || left {
		t.Error(os.Environ())
	}
}
