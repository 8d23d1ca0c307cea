package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// TestDockerfile parses it as BuildKit does, with BuildKit's own warnings.
func TestDockerfile(t *testing.T) {
	const root = "../.."
	file, err := os.Open(root + "/deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("%s (%s)", w.Short, w.URL)
	}
	lint := linter.New(&linter.Config{Warn: func(name, _, _, message string, _ []parser.Range) { t.Errorf("%s: %s", name, message) }})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, stage := range stages {
		for _, c := range stage.Commands {
			copied, ok := c.(*instructions.CopyCommand)
			switch {
			case ok && copied.From == "":
				for _, source := range copied.SourcePaths {
					if _, err := os.Stat(filepath.Join(root, source)); err != nil {
						t.Error(err)
					}
				}
			case ok && !slices.Contains(names, copied.From):
				t.Errorf("%s: no such stage", copied)
			}
		}
		names = append(names, stage.Name)
	}
	final := stages[len(stages)-1]
	if final.BaseName != "scratch" || len(stages) < 2 {
		t.Errorf("%d stages, the last one is from %s", len(stages), final.BaseName)
	}
	seen := make(map[string]bool)
	for _, c := range final.Commands {
		seen[c.Name()] = true
		switch c := c.(type) {
		case *instructions.RunCommand:
			t.Error("there is no shell in the image that could run anything")
		case *instructions.UserCommand:
			if uid, err := strconv.Atoi(strings.Split(c.User, ":")[0]); err != nil || uid == 0 {
				t.Errorf("USER %s: runAsNonRoot wants a number other than 0", c.User)
			}
		case *instructions.EntrypointCommand:
			if c.PrependShell || !slices.Equal(c.CmdLine[:2], []string{"/huptime", "--"}) {
				t.Errorf("%s", c)
			}
		}
	}
	if !seen["USER"] && !seen["user"] || !seen["ENTRYPOINT"] && !seen["entrypoint"] {
		t.Errorf("it has only %v", seen)
	}
}

// TestBuildsAlike: the image's huptime is made as the Makefile makes it.
func TestBuildsAlike(t *testing.T) {
	for _, file := range []string{"Makefile", "deploy/Dockerfile"} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range []string{"CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags netgo,osusergo", "-s -w -linkmode external -extldflags", "-X main.version=", "./cmd/huptime"} {
			if !strings.Contains(string(text), flag) {
				t.Errorf("%s does not have %q", file, flag)
			}
		}
	}
}
