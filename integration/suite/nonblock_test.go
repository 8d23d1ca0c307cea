package suite

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
)

// TestFaultA1NonBlocking: a new version that binds a blocking socket, and sets the flag when it has loaded, or fails, does not make the accepts of the
// old one block.
func TestFaultA1NonBlocking(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		file := write(t, filepath.Join(t.TempDir(), "seconds"), "0")
		port := freePort(t)
		s := script(t, "nonblock_asyncio.py", port, file)
		s.ask = askOK
		h := s.run(t, level)
		write(t, file, "1")
		h.hup()
		h.await("generation started", 2)
		lone := func() {
			for range 3 {
				c, err := dial(s.addr, false)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.ask(c); err != nil {
					t.Errorf("a lone request: %v", err)
				}
				c.conn.Close()
			}
		}
		lone()
		h.await("restart finished", 2)
		write(t, file, "nothing that could be read")
		h.hup()
		h.await("restart failed", 3)
		lone()
		write(t, file, "0")
		h.hup()
		h.await("restart finished", 4)
		lone()
	})
}

// changing is versions.py of the kind that a file names, at a port or a path.
func changing(t *testing.T, addr, where string) (s service, change func(kind string)) {
	t.Helper()
	dir := t.TempDir()
	kind := filepath.Join(dir, "kind")
	s = service{name: "changes", addr: addr, ask: askHTTP}
	s.command = []string{"/bin/sh", "-c", "exec " + program(t, "/usr/bin/python3", "python3") +
		" testdata/versions.py $(cat " + kind + ") " + where + " " + filepath.Join(dir, "none")}
	return s, func(to string) { write(t, kind, to) }
}

// TestFaultA1Changes: a blocking version after a non-blocking one, and the other way round, under load.
func TestFaultA1Changes(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		t.Parallel()
		port := freePort(t)
		s, change := changing(t, fmt.Sprintf("127.0.0.1:%d", port), strconv.Itoa(port))
		change("asyncio")
		h := s.run(t, level)
		kinds := []string{"thread", "asyncio"}
		clients := startClients(t, s.addr, s.ask, 1, 1, 1)
		h.restartsUnder(clients, 6, func(i int) { change(kinds[i%2]) }, "blocking and not at "+level)
	})
}

// TestFaultA1ChangesPath is TestFaultA1Changes on a unix socket, of which there can be only one, at the level that can let
// an accept wait. (At listeners the blocking version after a non-blocking one ends by EAGAIN: docs/limits.md.)
func TestFaultA1ChangesPath(t *testing.T) {
	path := shortDir(t) + "/s"
	s, change := changing(t, path, path)
	change("asyncio")
	h := s.run(t, "connections")
	change("thread")
	h.restartsUnder(startClients(t, s.addr, s.ask, 1, 1, 1), 1, func(int) {}, "blocking after not")
}

// TestFaultA1SetsItLater: a version that makes the socket non-blocking behind its bind, where the old one's is already, so
// that it can't be seen that it does: it stays so. The service answers with an error where it finds it blocking.
func TestFaultA1SetsItLater(t *testing.T) {
	asyncio := func(t *testing.T, addr, where string) service {
		s, change := changing(t, addr, where)
		change("asyncio")
		return s
	}
	for name, c := range map[string]struct {
		make  func(t *testing.T) service
		flags []string
	}{
		"path": {make: func(t *testing.T) service {
			path := shortDir(t) + "/s"
			return asyncio(t, path, path)
		}},
		// It polls when there is nobody.
		"accepts first": {make: func(t *testing.T) service { return unixGunicorn(t, "sync") }},
		"copies": {make: func(t *testing.T) service {
			port := freePort(t)
			return asyncio(t, fmt.Sprintf("127.0.0.1:%d", port), strconv.Itoa(port))
		}, flags: []string{"--multi=2"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := c.make(t)
				h := s.run(t, level, c.flags...)
				h.restartsUnder(startClients(t, s.addr, s.ask, 1, 1, 1, 1), 4, func(int) {}, name+" at "+level)
			})
		})
	}
}
