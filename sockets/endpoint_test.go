package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // "" is an error
		"tcp://127.0.0.1:80":                  "127.0.0.1:80",
		"tcp://0.0.0.0:80":                    "0.0.0.0:80",
		"tcp://[::1]:80":                      "[::1]:80",
		"tcp://[::]:80":                       "[::]:80",
		"tcp6://[::]:80":                      "[::]:80 only",
		"tcp6://:80":                          "[::]:80 only",
		"tcp://:80":                           "[::]:80 any",
		"tcp://[::ffff:127.0.0.1]:80":         "[::ffff:127.0.0.1]:80",
		"tcp://[fe80::1%1]:80":                "[fe80::1%1]:80",
		"tcp://[fe80::1%lo]:80":               "[fe80::1%1]:80",
		"unix:///run/x":                       "/run/x",
		"unix://@x y":                         "@x y",
		"unix:///" + strings.Repeat("x", 106): "/" + strings.Repeat("x", 106),
		"":                                    "",
		"tcp:":                                "",
		"tcp://":                              "",
		"tcp://80":                            "",
		"tcp://127.0.0.1":                     "",
		"tcp://127.0.0.1:":                    "",
		"tcp://127.0.0.1:0":                   "",
		"tcp://127.0.0.1:65536":               "",
		"tcp://127.0.0.1:-1":                  "",
		"tcp://127.0.0.1:http":                "",
		"tcp://localhost:80":                  "",
		"tcp://::1:80":                        "",
		"tcp://[::1%lo]:80":                   "",
		"tcp://[fe80::1%no such]:80":          "",
		"tcp6://127.0.0.1:80":                 "",
		"udp://127.0.0.1:80":                  "",
		"unix://":                             "",
		"unix://@":                            "",
		"unix:///":                            "",
		"unix://x":                            "",
		"unix:///a\x00b":                      "",
		"unix:///" + strings.Repeat("x", 107): "",
	} {
		e, err := ParseEndpoint(text)
		got := e.name
		if e.addr.IsValid() {
			got = e.addr.String()
		}
		if e.v6only {
			got += " only"
		}
		if e.any {
			got += " any"
		}
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken for %q", text, got)
		case want != "" && (err != nil || got != want || e.String() != text):
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: %q is no single line", text, err)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"tcp://[fe80::1%lo]:80", "unix://@a", "tcp6://:1", "unix:///a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEndpoint(text)
		if err == nil && e.name == "" && e.addr.Port() == 0 {
			t.Errorf("%q is taken and names nothing", text)
		}
	})
}

// endpoints parses them.
func endpoints(t *testing.T, texts ...string) (list []Endpoint) {
	t.Helper()
	for _, text := range texts {
		e, err := ParseEndpoint(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// standing opens them until the test is over.
func standing(t *testing.T, texts ...string) *Standing {
	t.Helper()
	st, err := OpenStanding(nil, endpoints(t, texts...), false, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

// unusedPort is one of TCP that nobody has, as [stagedKind.unused] chooses it.
func unusedPort(t *testing.T) int {
	t.Helper()
	return int(unusedAddress(t, netip.IPv4Unspecified(), unix.SOCK_STREAM).Port())
}

// IPv4's own endpoint makes that of IPv6 one for IPv6 alone: both could not be had otherwise.
func TestEndpointFamilies(t *testing.T) {
	port := unusedPort(t)
	v4, v6 := fmt.Sprintf("tcp://0.0.0.0:%d", port), fmt.Sprintf("tcp://[::]:%d", port)
	for _, test := range []struct {
		texts []string
		only  []bool
	}{
		{[]string{v6}, []bool{false}},
		{[]string{v6, v4}, []bool{true, false}},
		{[]string{v4, v6}, []bool{false, true}},
		{[]string{strings.Replace(v6, "tcp", "tcp6", 1)}, []bool{true}},
		{[]string{fmt.Sprintf("tcp://:%d", port)}, []bool{false}},
	} {
		st, err := OpenStanding(nil, endpoints(t, test.texts...), false, true, nil)
		if err != nil {
			t.Errorf("%q: %v", test.texts, err)
			continue
		}
		for i, s := range st.sockets {
			if s.Key.V6Only != test.only[i] {
				t.Errorf("%q: %v", test.texts, s.Key)
			}
		}
		st.Close()
	}
}

func TestEndpointUnix(t *testing.T) {
	path := puppets.UnixNames(t)["path"]
	st := standing(t, "unix://"+path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info, err)
	}
	puppets.DialUnix(t, "unix", path)
	if other, err := OpenStanding(nil, endpoints(t, "unix://"+path), false, true, nil); err == nil {
		other.Close()
		t.Error("a socket that somebody listens on was replaced")
	}
	st.Close()
	if unixSocketExists(path) {
		t.Error("the file is left")
	}
	// A file that a killed process has left.
	fd, err := newStream(unix.AF_UNIX)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Close(fd)); err != nil {
		t.Fatal(err)
	}
	standing(t, "unix://"+path)
	puppets.DialUnix(t, "unix", path)
	// Anything else stays.
	plain := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := OpenStanding(nil, endpoints(t, "unix://"+plain), false, true, nil); err == nil {
		other.Close()
		t.Error("a file that is no socket was replaced")
	}
	if _, err := os.Stat(plain); err != nil {
		t.Error(err)
	}
}
