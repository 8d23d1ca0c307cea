package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// table is a table of BENCHMARKS.md. It is printed when all benchmarks have run, ready to be pasted.
type table struct {
	benchmark string
	head      []string
	rows      [][]string
}

// tables are those of this run, in the order of their first rows.
var tables []*table

// row puts a row into the table of the benchmark that has this head, with the load average behind it: what a figure of a shared machine is worth
// depends on that. A row with the same first cell is replaced.
func row(b *testing.B, head []string, cells ...string) {
	b.Helper()
	name, _, _ := strings.Cut(b.Name(), "/")
	i := slices.IndexFunc(tables, func(t *table) bool { return t.benchmark == name && slices.Equal(t.head, head) })
	if i < 0 {
		i = len(tables)
		tables = append(tables, &table{benchmark: name, head: head})
	}
	t := tables[i]
	cells = append(cells, loadAverage())
	if i := slices.IndexFunc(t.rows, func(r []string) bool { return r[0] == cells[0] }); i >= 0 {
		t.rows[i] = cells
		return
	}
	t.rows = append(t.rows, cells)
}

func printTables() {
	for _, t := range tables {
		head := append(slices.Clone(t.head), "load average")
		fmt.Printf("\n%s\n\n| %s |\n|%s\n", t.benchmark, strings.Join(head, " | "), strings.Repeat("---|", len(head)))
		for _, r := range t.rows {
			fmt.Printf("| %s |\n", strings.Join(r, " | "))
		}
	}
}

// loadAverage is that of the last minute, with this benchmark's own part in it.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

// spread is the median with the quartiles behind it, as a cell.
func spread(values []float64, format string) string {
	q1, median, q3 := quartiles(values)
	return fmt.Sprintf(format+" ("+format+" to "+format+")", median, q1, q3)
}
