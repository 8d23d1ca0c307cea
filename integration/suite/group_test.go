package suite

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// grouped is a service of which each start takes the number of its SO_REUSEPORT sockets from a file: set writes it.
type grouped struct {
	service
	set func(sockets int)
}

func groupedGo(t *testing.T) grouped {
	s := golang(t)
	for i, word := range s.command {
		if word == s.addr {
			s.command[i] = "reuseport/" + s.addr
		}
	}
	return grouped{s, func(n int) { write(t, s.config, strings.Repeat("also=reuseport/"+s.addr+" ", n-1)) }}
}

func groupedGo6(t *testing.T) grouped {
	s := groupedGo(t)
	old := s.addr
	s.addr = "[::1]" + s.addr[strings.LastIndex(s.addr, ":"):]
	for i, word := range s.command {
		s.command[i] = strings.Replace(word, old, s.addr, 1)
	}
	return grouped{s.service, func(n int) { write(t, s.config, strings.Repeat("also=reuseport/"+s.addr+" ", n-1)) }}
}

func groupedNginx(t *testing.T) grouped {
	s := nginx(t)
	config := s.command[2]
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "listen "+s.addr, "listen "+s.addr+" reuseport", 1)
	return grouped{s, func(n int) {
		write(t, config, strings.Replace(text, "worker_processes 2", "worker_processes "+strconv.Itoa(n), 1))
	}}
}

// TestGroupTwentyRestarts: each start has two or four sockets in the group, in turns. Nothing that waits in a socket which is given up may be lost.
func TestGroupTwentyRestarts(t *testing.T) {
	const restarts = 20
	for name, make := range map[string]func(t *testing.T) grouped{"go": groupedGo, "ipv6": groupedGo6, "nginx": groupedNginx} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				s.set(4)
				h := s.run(t, level)
				h.changesUnderLoad(s.service, restarts, func(i int) { s.set(2 + 2*(i%2)) }, name+" at "+level,
					"cannot gate a socket that nobody has claimed",
					"fewer sockets of a SO_REUSEPORT group are used than before; what waits in the others may be reset when they are closed")
				if n := h.count("group steered away from the sockets that will go"); n != restarts/2 {
					t.Errorf("the group was steered %d times, want %d", n, restarts/2)
				}
			})
		})
	}
}

// TestGroupOfItsOwnChoice: a program that the service has attached to its group is left alone, also where it would have to be replaced for the
// sockets that are given up, and the log says so.
func TestGroupOfItsOwnChoice(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		s := order(t, "group")
		members := t.TempDir() + "/members"
		s.command = append(s.command, members)
		write(t, members, "4")
		h := s.run(t, level)
		l := startLoad(t, s.addr, s.ask, clients)
		l.awaitNewPID(0)
		for i, n := range []int{2, 2, 4, 1} {
			write(t, members, strconv.Itoa(n))
			before := l.pids()
			h.hup()
			h.await("restart finished", i+2)
			l.awaitNewPID(before)
			h.await("generation ended", i+1)
		}
		l.check("a group with a program of the service's at " + level)
		const warning = "fewer sockets of a SO_REUSEPORT group are used than before; what waits in the others may be reset when they are closed"
		// 4 to 2 and 4 to 1: the generation that is left with fewer says so.
		for _, generation := range []int{1, 4} {
			if e := h.await(warning, generation); !strings.Contains(e.Error, "the service has attached a program of its own") {
				t.Errorf("the warning does not say why: %s", e.Error)
			}
		}
		if n := h.count(warning); n != 2 {
			t.Errorf("the log warns %d times, want 2", n)
		}
		if n := h.count("group steered away from the sockets that will go"); n > 0 {
			t.Errorf("the group was steered %d times", n)
		}
	})
}

// TestGroupExec: in exec mode nobody knows how many sockets the next start will have when the old one ends.
func TestGroupExec(t *testing.T) {
	const restarts = 10
	for name, make := range map[string]func(t *testing.T) grouped{"go": groupedGo, "nginx": groupedNginx} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := make(t)
				s.set(4)
				h := s.run(t, level, "--exec")
				h.changesUnderLoad(s.service, restarts, func(i int) { s.set(2 + 2*(i%2)) }, name+" --exec at "+level,
					"nobody listens on an address any more; it is closed")
			})
		})
	}
}

// TestGroupFailedGrowth: a new version that has more sockets gets no clients before it is ready, and what it could have had is not lost with it.
func TestGroupFailedGrowth(t *testing.T) {
	const failures = 5
	eachLevel(t, func(t *testing.T, level string) {
		s := order(t, "grow")
		members := t.TempDir() + "/members"
		s.command = append(s.command, members)
		write(t, members, "2")
		h := s.run(t, level)
		l := startLoad(t, s.addr, s.ask, clients)
		l.awaitNewPID(0)
		for i := range failures {
			write(t, members, "4 fails")
			h.hup()
			h.await("restart failed", i+2)
		}
		write(t, members, "4")
		before := l.pids()
		h.hup()
		h.await("restart finished", failures+2)
		l.awaitNewPID(before)
		l.check("growth that fails at " + level)
		if n := h.count("restart failed"); n != failures {
			t.Errorf("%d restarts failed, want %d", n, failures)
		}
	})
}
