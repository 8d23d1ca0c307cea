package suite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// postgres is a new PostgreSQL and who may run it: it refuses to be root's.
type postgres struct {
	service
	as option
}

func newPostgres(t *testing.T) postgres {
	t.Helper()
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(all) == 0 {
		missing(t, "PostgreSQL is not installed: run make deps")
	}
	bin := filepath.Dir(all[len(all)-1])
	dir := t.TempDir()
	data, port := filepath.Join(dir, "data"), freePort(t)
	// The other user must reach the binary, whose directory may be the tests' own.
	b, err := os.ReadFile(huptime)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "huptime")
	if err := os.WriteFile(binary, b, 0o755); err != nil {
		t.Fatal(err)
	}
	p := postgres{as: asPostgres(t, dir, binary), service: service{
		name: "postgres",
		command: []string{filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(port),
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + dir, "-c", "fsync=off"},
		addr: fmt.Sprintf("127.0.0.1:%d", port),
		ask:  askPostgres,
	}}
	initdb := filepath.Join(bin, "initdb")
	init := exec.Command(initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
	p.as(init)
	init.Path = initdb
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	return p
}

// asPostgres lets huptime run as the user postgres, who gets the directory, where the tests are root's.
func asPostgres(t *testing.T, dir, binary string) option {
	t.Helper()
	if os.Getuid() != 0 {
		return func(*exec.Cmd) {}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		missing(t, err.Error())
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return func(c *exec.Cmd) {
		c.Path = binary
		c.Dir = dir
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
}

// askPostgres asks for 1, and since when that server runs, which tells one from the other.
func askPostgres(c *client) (reply, error) {
	const version3 = 3 << 16
	startup := binary.BigEndian.AppendUint32(nil, version3)
	startup = append(startup, "user\x00postgres\x00database\x00postgres\x00\x00"...)
	length := binary.BigEndian.AppendUint32(nil, uint32(len(startup)+4))
	if _, err := c.conn.Write(append(length, startup...)); err != nil {
		return reply{}, err
	}
	if _, err := readyForQuery(c); err != nil {
		return reply{}, fmt.Errorf("after the startup: %w", err)
	}
	query := "select 1, pg_postmaster_start_time()\x00"
	message := append(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(len(query)+4)), query...)
	if _, err := c.conn.Write(message); err != nil {
		return reply{}, err
	}
	row, err := readyForQuery(c)
	if err != nil {
		return reply{}, fmt.Errorf("after the query: %w", err)
	}
	if len(row) != 2 || row[0] != "1" || row[1] == "" {
		return reply{}, fmt.Errorf("wrong row %q", row)
	}
	if _, err := c.conn.Write([]byte{'X', 0, 0, 0, 4}); err != nil {
		return reply{}, err
	}
	if n, err := c.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return reply{}, fmt.Errorf("after the end: %d bytes, %w", n, err)
	}
	return reply{pid: row[1]}, nil
}

// readyForQuery reads what a server says until it is ready for a query, and returns the row that is among it.
func readyForQuery(c *client) (row []string, err error) {
	for {
		var header [5]byte
		if _, err := io.ReadFull(c.r, header[:]); err != nil {
			return nil, err
		}
		length := binary.BigEndian.Uint32(header[1:])
		if length < 4 || length > 1<<16 {
			return nil, fmt.Errorf("message %q has length %d", header[0], length)
		}
		body := make([]byte, length-4)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return nil, err
		}
		switch header[0] {
		case 'Z':
			return row, nil
		case 'E':
			return nil, fmt.Errorf("the server says %q", body)
		case 'R':
			if binary.BigEndian.Uint32(body) != 0 {
				return nil, errors.New("it asks for a password")
			}
		case 'D':
			for body = body[2:]; len(body) >= 4; {
				n := binary.BigEndian.Uint32(body)
				row = append(row, string(body[4:4+n]))
				body = body[4+n:]
			}
		}
	}
}

// TestPostgres: the old one ends before the new one starts, and clients, who connect anew each time, wait until that
// has begun to listen.
func TestPostgres(t *testing.T) {
	const restarts = 10
	for _, c := range []struct{ name, ready string }{
		{"notify", "--ready=notify"},
		{"exec", "--ready=exec:BIN/pg_isready -q -h 127.0.0.1 -p PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				p := newPostgres(t)
				_, port, _ := strings.Cut(p.addr, ":")
				ready := strings.NewReplacer("BIN", filepath.Dir(p.command[0]), "PORT", port).Replace(c.ready)
				flags := []string{"--track=" + level, "--exec", "--stop-signal=INT", ready, "--"}
				h := start(t, append(flags, p.command...), p.as)
				h.await("generation ready", 1)
				l := startClients(t, p.addr, p.ask, 1, 1, 1, 1, 1, 1)
				l.awaitNewPID(0)
				for i := range restarts {
					before := l.pids()
					h.hup()
					h.await("restart finished", i+2)
					l.awaitNewPID(before)
				}
				l.check(c.name)
				if n := l.pids(); n != restarts+1 {
					t.Errorf("%d generations have answered, want %d", n, restarts+1)
				}
			})
		})
	}
}
