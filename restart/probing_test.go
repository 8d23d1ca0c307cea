package restart

import (
	"testing"

	"github.com/huptime/huptime/internal/probe"
)

// Who has sockets of their own: with a probe that connects, and in exec mode with anything that says when it is ready.
func TestStages(t *testing.T) {
	for _, c := range []struct {
		mode   Mode
		probes []string
		stage  bool
		want   bool
	}{
		{Fork, nil, false, false},
		{Fork, nil, true, true},
		{Fork, []string{"wait"}, false, false},
		{Fork, []string{"notify"}, false, false},
		{Fork, []string{"exec:true"}, false, false},
		{Fork, []string{"exec:true", "tcp://127.0.0.1:80"}, false, true},
		{Fork, []string{"http://127.0.0.1:80/"}, false, true},
		{Exec, nil, false, false},
		{Exec, nil, true, true},
		{Exec, []string{"wait"}, false, false},
		{Exec, []string{"notify"}, false, true},
		{Exec, []string{"exec:true"}, false, true},
		{Exec, []string{"notify", "exec:true"}, false, true},
	} {
		cfg := Config{Mode: c.mode, Stage: c.stage}
		for _, text := range c.probes {
			p, err := probe.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Probes = append(cfg.Probes, p)
		}
		if got := cfg.stages(); got != c.want {
			t.Errorf("mode %v, probes %q, --stage %v: staged is %v", c.mode, c.probes, c.stage, got)
		}
	}
}
