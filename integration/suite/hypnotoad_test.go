package suite

import (
	"fmt"
	"path/filepath"
	"testing"
)

func hypnotoad(t *testing.T, pidFile string) service {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", unusedPort(t))
	app := write(t, filepath.Join(t.TempDir(), "app.pl"), fmt.Sprintf(`use Mojolicious::Lite;
app->config(hypnotoad => {listen => ["http://%s"], workers => 2, pid_file => "%s"});
my $manager = $$;
get '/' => sub { my $c = shift; $c->render(text => "pid=$manager version=1\n"); };
app->start;
`, addr, pidFile))
	return service{name: "hypnotoad", command: []string{program(t, "hypnotoad"), "-f", app}, addr: addr, ask: askHTTP}
}

// TestFaultF4Hypnotoad: a server that finds its predecessor by its pid file, asks it to replace itself and exits
// with 0, does not start, and the log says what it may have found. With a pid file for each start, or where no two
// run at once, it is restarted as others are.
func TestFaultF4Hypnotoad(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		pid := filepath.Join(t.TempDir(), "pid")
		for mode, file := range map[string]string{"--exec": pid, "--fork": pid + ".$$"} {
			s := hypnotoad(t, file)
			h := s.run(t, level, mode)
			l := startClients(t, s.addr, s.ask, 1, 1, perConnection, perConnection)
			h.restartsUnder(l, 3, func(int) {}, "hypnotoad "+mode+" at "+level)
		}
		s := hypnotoad(t, pid+".one")
		h := s.run(t, level)
		failsToRestart(t, h, s, 2, "exited with status 0")
		h.await("the new generation ended before it bound anything; it may have taken its predecessor for another instance of itself", 2)
	})
}
