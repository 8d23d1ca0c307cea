package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDaemons: a service that puts itself into the background is one generation until its last process has ended. huptime stays.
func TestDaemons(t *testing.T) {
	shapes(t, map[string]func(t *testing.T) service{
		"nginx": func(t *testing.T) service {
			s := nginx(t)
			file := s.command[2]
			conf, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			write(t, file, strings.Replace(string(conf), "daemon off", "daemon on", 1))
			return s
		},
		"redis": func(t *testing.T) service {
			s := redis(t)
			s.command[len(s.command)-1] = "yes" // --daemonize
			s.command = append(s.command, "--pidfile", filepath.Join(t.TempDir(), "redis.pid"))
			return s
		},
		"double fork": func(t *testing.T) service { return python(t, "daemon") },
	})
}

// TestPools: a master that forks again whoever dies, also while the restart runs, and workers that take turns by a lock.
func TestPools(t *testing.T) {
	shapes(t, map[string]func(t *testing.T) service{
		"gunicorn": func(t *testing.T) service { return python(t, "gunicorn") },
		"mutex":    func(t *testing.T) service { return python(t, "mutex") },
	})
}

// shapes restarts services under load, at both levels and in both modes.
func shapes(t *testing.T, services map[string]func(t *testing.T) service) {
	const restarts = 10
	for name, make := range services {
		for _, mode := range []string{"--fork", "--exec"} {
			t.Run(name+" "+mode[2:], func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					s := make(t)
					h := s.run(t, level, mode, "--drain-timeout=20s")
					h.restartsUnderLoad(s, restarts, name+" at "+level, "service is started again; clients wait meanwhile")
				})
			})
		}
	}
}
