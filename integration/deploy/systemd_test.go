package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits: systemd has nothing to say of them.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("HUPTIME_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip("unsupported here:", err)
	}
	dir := t.TempDir()
	verify := func(t *testing.T, unit, text string) string {
		t.Helper()
		file := filepath.Join(dir, unit)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		return string(out)
	}
	// The service first: the socket unit is for it.
	for _, unit := range []string{"huptime.service", "huptime@.service", "huptime.socket"} {
		text, err := os.ReadFile("../../deploy/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		// It looks for the programs, which need not be installed here.
		there := strings.ReplaceAll(string(text), "/usr/local/bin/huptime", "/bin/true")
		instance := strings.Replace(unit, "@.", "@shop.", 1)
		if said := verify(t, instance, there); said != "" {
			t.Errorf("%s: %s", unit, said)
		}
		// And it would have something to say.
		mistake := strings.NewReplacer("KillMode=mixed", "KilMode=mixed", "Backlog=", "KilMode=").Replace(there)
		if said := verify(t, "bad-"+instance, mistake); !strings.Contains(said, "KilMode") {
			t.Errorf("%s: a mistake is not found: %q", unit, said)
		}
		if strings.HasSuffix(unit, ".socket") {
			continue
		}
		for _, line := range []string{"ExecReload=/bin/kill -HUP $MAINPID", "KillMode=mixed", "SuccessExitStatus=143"} {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s has no line %s", unit, line)
			}
		}
	}
}
