package suite

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// varnish answers by itself, with the identity that it is started with. It has a directory of its own at each start
// where dirs says so: it keeps its pid file there, and two can't share one.
func varnish(t *testing.T, dirs bool) service {
	t.Helper()
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755) // its worker is another user's
	vcl := write(t, filepath.Join(dir, "answer.vcl"), `vcl 4.1;
backend default none;
sub vcl_recv { return (synth(200)); }
sub vcl_synth { set resp.body = "pid=" + server.identity + {" version=1
"}; return (deliver); }
`)
	port := unusedPort(t)
	addr := "127.0.0.1:" + strconv.Itoa(port)
	work := dir + "/work"
	if dirs {
		work += "$$"
	}
	script := `exec ` + program(t, "varnishd", "/usr/sbin/varnishd") +
		` -F -a ` + addr + ` -f ` + vcl + ` -n ` + work + ` -i $$ -T none`
	return service{name: "varnish", command: []string{"/bin/sh", "-c", script}, addr: addr, ask: askHTTP}
}

// TestFaultF1Varnish: a manager that binds and closes its port to try it, binds it again, has it listened on by a
// worker, and binds it once more when that has ended.
func TestFaultF1Varnish(t *testing.T) {
	for _, mode := range []string{"--exec", "--fork"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := varnish(t, mode == "--fork")
				h := s.run(t, level, mode)
				h.restartsUnderLoad(s, 4, "varnish at "+level, "nobody listens on an address any more; it is closed")
				h.mu.Lock()
				defer h.mu.Unlock()
				for _, e := range h.events {
					if e.Msg == "generation ended" && e.Status != "exited with status 0" {
						t.Errorf("generation %d: %s", e.Generation, e.Status)
					}
				}
				for _, line := range h.output {
					if strings.Contains(line, "reopen") {
						t.Errorf("varnish says: %s", line)
					}
				}
			})
		})
	}
}
