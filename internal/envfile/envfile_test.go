package envfile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want []Variable
	}{
		{"", nil},
		{"\n\n  \t\n", nil},
		{"# A=1\n;B=2\n  # C=3", nil},
		{"A=1", []Variable{{"A", "1"}}},
		{"A=1\nB=2\n", []Variable{{"A", "1"}, {"B", "2"}}},
		{"A=1\r\nB=2\r\n", []Variable{{"A", "1"}, {"B", "2"}}},
		{"A=1\nB=2\nA=3", []Variable{{"A", "3"}, {"B", "2"}}},
		{"  A \t=  b c  ", []Variable{{"A", "b c"}}},
		{"_a9=", []Variable{{"_a9", ""}}},
		{"A=b=c", []Variable{{"A", "b=c"}}},
		{"A=$HOME `id` # no comment", []Variable{{"A", "$HOME `id` # no comment"}}},
		{`A=it's "so" C:\dir`, []Variable{{"A", `it's "so" C:\dir`}}},
		{`A=""`, []Variable{{"A", ""}}},
		{`A=" b "  `, []Variable{{"A", " b "}}},
		{`A='b "c" \'`, []Variable{{"A", `b "c" \`}}},
		{`A="\"\\\$\` + "`" + `\n'#"`, []Variable{{"A", `"\$` + "`" + `\n'#`}}},
		{"A=\xff\xfe", []Variable{{"A", "\xff\xfe"}}},
	} {
		got, err := Parse([]byte(test.text))
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %v; want %q", test.text, got, err, test.want)
		}
	}
}

func TestParseFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		line int
		says string
	}{
		{"secret", 1, "KEY=VALUE"},
		{"A=1\n\n# B\nsecret\n", 4, "KEY=VALUE"},
		{"=secret", 1, "no name"},
		{"9A=secret", 1, "no name"},
		{"A-B=secret", 1, "no name"},
		{"A B=secret", 1, "no name"},
		{"\ufeffA=secret", 1, "no name"},
		{"export A=secret", 1, "export"},
		{`A="secret`, 1, "not closed"},
		{`A='secret` + "\nB=2'", 1, "not closed"},
		{`A="secret\"`, 1, "not closed"},
		{`A=1` + "\n" + `B="secret" secret`, 2, "closing quote"},
		{`A=secret\`, 1, "backslash"},
		{"A=secret\x00", 1, "NUL"},
	} {
		got, err := Parse([]byte(test.text))
		var e *LineError
		if !errors.As(err, &e) || e.Line != test.line || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: %q, %v; want line %d, %q", test.text, got, err, test.line, test.says)
			continue
		}
		if s := err.Error(); strings.Contains(s, "secret") || strings.Contains(s, "\n") {
			t.Errorf("%q: the error is %q", test.text, s)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got, err := Read(put("good", "A=1\n")); err != nil || !slices.Equal(got, []Variable{{"A", "1"}}) {
		t.Errorf("%q, %v", got, err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		put("bad", "A=1\nB\n"):   "line 2: ",
		filepath.Join(dir, "no"): "no such file",
		dir:                      "no regular file",
		fifo:                     "no regular file",
		put("large", "A=1"+strings.Repeat("\n", maxSize)): "more than",
	} {
		_, err := Read(path)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%s: %v; want %q", path, err, says)
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	environ := []string{"A=1", "B=2", "A=again", "AB=3", "odd"}
	got := Merge(environ, []Variable{{"A", "x"}, {"C", ""}})
	if want := []string{"B=2", "AB=3", "odd", "A=x", "C="}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if environ[0] != "A=1" {
		t.Error("the environment was changed in place")
	}
}

// FuzzParse: whatever the file holds, the variables are such as an environment can hold, and written down again they
// are read the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"A=1\n# c\nB = \"x\\\"\\\\\"\r\n", "A='b'\nA=c", "export A=1", "A=\\", "=\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Parse(text)
		if err != nil {
			if list != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q, %v", list, err)
			}
			return
		}
		var again strings.Builder
		escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
		for _, v := range list {
			if !isKey(v.Key) || strings.ContainsAny(v.Value, "\x00\n") {
				t.Errorf("%q", v)
			}
			again.WriteString(v.Key + `="` + escape.Replace(v.Value) + "\"\n")
		}
		if read, err := Parse([]byte(again.String())); err != nil || !slices.Equal(read, list) {
			t.Errorf("%q, %v; want %q", read, err, list)
		}
	})
}
