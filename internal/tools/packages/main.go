// Command packages prints a table in Markdown of the packages of a module: how many lines each has without its tests,
// how many names it exports, and which packages of the module it imports.
//
//	packages [-write PAGE] DIRECTORY
//
// With -write the table takes the place of the one in PAGE that is between the two lines of begin and end.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The table in a page is what is between these lines.
const (
	begin = "<!-- The table is made by: make packages -->\n"
	end   = "<!-- end of the table -->\n"
)

func main() {
	page := flag.String("write", "", "the `PAGE` that the table is written to; else it is printed")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: packages [-write PAGE] DIRECTORY")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *page); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

func run(dir, page string) error {
	list, err := packages(dir)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("| package | lines | names | methods | imports |\n|---|--:|--:|--:|---|\n")
	for _, p := range list {
		s, err := p.size()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s |\n",
			p.short(p.ImportPath), s.lines, len(s.names), s.methods, strings.Join(p.own(), ", "))
	}
	if page == "" {
		fmt.Print(b.String())
		return nil
	}
	return replace(page, b.String())
}

// replace puts the table into the page.
func replace(page, table string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, began := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !began || !ended {
		return fmt.Errorf("%s: no table between the lines %q and %q", page, begin, end)
	}
	return os.WriteFile(page, []byte(before+begin+table+end+after), 0o644)
}

// pkg is what go list says of a package.
type pkg struct {
	Dir, ImportPath, Name string
	Module                struct{ Path string }
	// GoFiles are those of this machine's architecture, IgnoredGoFiles those of others.
	GoFiles, CgoFiles, IgnoredGoFiles []string
	Imports                           []string
}

// packages lists the packages of the module in dir that have code of their own, but for those below integration, which
// are tests and what they run.
func packages(dir string) ([]pkg, error) {
	list := exec.Command("go", "list", "-json=Dir,ImportPath,Name,Module,GoFiles,CgoFiles,IgnoredGoFiles,Imports", "./...")
	list.Dir, list.Stderr = dir, os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the packages: %w", err)
	}
	var found []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("cannot read what go list says: %w", err)
		}
		if len(p.GoFiles)+len(p.CgoFiles) > 0 && !strings.HasPrefix(p.short(p.ImportPath), "integration/") {
			found = append(found, p)
		}
	}
}

// short is an import path without the module's.
func (p pkg) short(path string) string { return strings.TrimPrefix(path, p.Module.Path+"/") }

// own are the imports that are packages of the module.
func (p pkg) own() []string {
	var own []string
	for _, path := range p.Imports {
		if strings.HasPrefix(path, p.Module.Path+"/") {
			own = append(own, p.short(path))
		}
	}
	slices.Sort(own)
	return own
}

// size is how much code a package has.
type size struct {
	lines   int
	names   map[string]struct{} // exported, at package level
	methods int                 // exported, of exported types
}

// size reads the package's files, those of other architectures too.
func (p pkg) size() (size, error) {
	s := size{names: make(map[string]struct{})}
	seen := make(map[string]struct{}) // methods: each architecture may have its own
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return s, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err != nil {
			return s, err
		}
		s.lines += strings.Count(string(text), "\n")
		for _, d := range file.Decls {
			s.add(d, seen)
		}
	}
	s.methods = len(seen)
	return s, nil
}

// add counts what a declaration exports.
func (s *size) add(d ast.Decl, methods map[string]struct{}) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() {
			return
		}
		if d.Recv == nil {
			s.names[d.Name.Name] = struct{}{}
		} else if of := receiver(d.Recv.List[0].Type); ast.IsExported(of) {
			methods[of+"."+d.Name.Name] = struct{}{}
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			var names []*ast.Ident
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				names = []*ast.Ident{spec.Name}
			case *ast.ValueSpec:
				names = spec.Names
			}
			for _, n := range names {
				if n.IsExported() {
					s.names[n.Name] = struct{}{}
				}
			}
		}
	}
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr: // of a generic type
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
