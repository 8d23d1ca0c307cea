package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the table of flags in docs/usage.md anew")

// The table of docs/usage.md is what is between these lines.
const (
	usagePage  = "../../docs/usage.md"
	tableBegin = "<!-- The table is made from the flag set: go test ./cmd/huptime -run TestUsagePage -update -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// TestUsagePage: the table of flags in docs/usage.md is the flag set's.
func TestUsagePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(usagePage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, began := strings.Cut(string(page), tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !began || !ended {
		t.Fatalf("%s: no table of flags between the lines %q and %q", usagePage, tableBegin, tableEnd)
	}
	want := flagTable()
	if table == want {
		return
	}
	if !*update {
		t.Fatalf("%s: the table of flags is not the flag set's; write it anew by\n%s\nwanted:\n%s", usagePage,
			"\tgo test ./cmd/huptime -run TestUsagePage -update", want)
	}
	if err := os.WriteFile(usagePage, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// flagTable is a table in Markdown with a row for each flag, in the order of --help.
func flagTable() string {
	var b strings.Builder
	b.WriteString("| flag | default | what it does |\n|---|---|---|\n")
	flags(&options{}).VisitAll(func(f *pflag.Flag) {
		argument, text := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		switch {
		case f.NoOptDefVal != "" && f.Value.Type() != "bool":
			name += "[=" + argument + "]"
		case argument != "":
			name += " " + argument
		}
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + "`, `" + name
		}
		value := ""
		if d := f.DefValue; d != "" && d != "[]" && d != "false" {
			value = "`" + d + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, value, strings.ReplaceAll(text, "|", `\|`))
	})
	return b.String()
}
