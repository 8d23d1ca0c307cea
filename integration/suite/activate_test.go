package suite

import (
	"os/exec"
	"testing"
)

// TestSystemdSocketActivate: systemd's own activator opens the sockets, waits for the first client, and becomes huptime. The service knows nothing of
// it, or is handed the sockets.
func TestSystemdSocketActivate(t *testing.T) {
	activate := program(t, "systemd-socket-activate")
	for name, passed := range map[string]bool{"bound": false, "passed": true} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				flags, arguments := []string{"--track=" + level}, []string(nil)
				if passed {
					flags, arguments = append(flags, "--pass-fds"), append(arguments, "-activation")
				}
				s := golang(t, arguments...)
				// Its file descriptors are the service's from 3 on, in this order.
				path := shortDir(t) + "/s"
				for i, word := range s.command {
					if word == s.addr {
						s.command[i] = s.addr + "," + path
					}
				}
				h := start(t, append(flags, s.command...), func(cmd *exec.Cmd) {
					cmd.Args = append([]string{activate, "-l", s.addr, "-l", path, "--fdname=web:admin", "-E", cmd.Env[len(cmd.Env)-1], cmd.Path}, cmd.Args[1:]...)
					cmd.Path = activate
				})
				h.awaitOutput("Listening on " + path)
				h.restartsUnderLoad(s, 5, name+" at "+level, "nobody listens on an address any more; it is closed",
					"nobody has claimed an address that huptime listens on; clients wait until somebody does")
				s.addr = path
				s.mustAnswer(t)
			})
		})
	}
}
