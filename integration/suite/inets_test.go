package suite

import (
	"fmt"
	"testing"
)

// inets is Erlang's web server. It loads what it answers with when the first requests come, and answers 500 to those
// that come at once.
func inets(t *testing.T) service {
	t.Helper()
	port := unusedPort(t)
	dir := t.TempDir()
	start := fmt.Sprintf(`inets:start(), R = os:getenv("ROOT"), {ok, _} = inets:start(httpd, [{port, %d}, `+
		`{bind_address, {127,0,0,1}}, {server_name, "test"}, {server_root, R}, {document_root, R}, `+
		`{directory_index, ["index.html"]}]).`, port)
	script := `export ROOT=` + dir + `/$$ HOME=` + dir + `; mkdir $ROOT; ` +
		`echo "pid=$$ version=1" >$ROOT/index.html; exec ` + program(t, "erl") + ` -noinput -eval '` + start + `'`
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	return service{name: "inets", command: []string{"/bin/sh", "-c", script}, addr: addr, ask: askHTTP}
}

// TestFaultF3Inets: a server that is not up to the first clients, when they come all at once, is asked by a probe
// first.
func TestFaultF3Inets(t *testing.T) {
	for _, mode := range []string{"--fork", "--exec"} {
		t.Run(mode[2:], func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := inets(t)
				h := s.run(t, level, mode, "--ready=http://"+s.addr+"/")
				h.restartsUnder(startLoad(t, s.addr, s.ask, 16), 3, func(int) {}, "inets at "+level)
			})
		})
	}
}
