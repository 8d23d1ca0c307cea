package suite

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nsd is a DNS server whose identity (RFC 4892) is its leader's PID: a shell writes it into the configuration and becomes the server.
func nsd(t *testing.T) service {
	t.Helper()
	port := freePortOfBoth(t)
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755)
	text := fmt.Sprintf(`#!/bin/sh
cat >%[1]s/$$.conf <<END
server:
	ip-address: 127.0.0.1@%[2]d
	server-count: 1
	username: ""
	identity: "$$"
	rrl-ratelimit: 0
	database: ""
	pidfile: ""
	zonesdir: "%[1]s"
	zonelistfile: "%[1]s/$$.zones"
	xfrdfile: "%[1]s/$$.xfrd"
	xfrdir: "%[1]s"
remote-control:
	control-enable: no
END
exec %[3]s -d -c %[1]s/$$.conf
`, dir, port, program(t, "nsd", "/usr/sbin/nsd"))
	script := write(t, filepath.Join(dir, "start"), text)
	os.Chmod(script, 0o755)
	return service{name: "nsd", command: []string{script}, addr: fmt.Sprintf("127.0.0.1:%d", port)}
}

// askIdentity asks a DNS server who it is: id.server, class CH, type TXT.
func askIdentity(n int) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(n))
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	return append(b, "\x02id\x06server\x00\x00\x10\x00\x03"...)
}

// tellIdentity reads the answer. Of a question's number it has the lower 16 bits.
func tellIdentity(answer []byte) (int, string, error) {
	const question = 12 + 11 + 4
	if len(answer) < question+13 || answer[3]&0xf != 0 || binary.BigEndian.Uint16(answer[6:]) != 1 {
		return 0, "", fmt.Errorf("no answer: %x", answer)
	}
	record := string(answer[question:])
	length := int(record[12])
	if len(record) < 13+length || strings.Trim(record[13:13+length], "0123456789") != "" {
		return 0, "", fmt.Errorf("no process id: %q", record)
	}
	return int(binary.BigEndian.Uint16(answer)), record[13 : 13+length], nil
}

// askIdentityTCP is askIdentity over TCP, where each message is preceded by its length (RFC 1035, 4.2.2).
func askIdentityTCP(c *client) (reply, error) {
	question := askIdentity(0x4444)
	if _, err := c.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(question))), question...)); err != nil {
		return reply{}, err
	}
	var length uint16
	if err := binary.Read(c.r, binary.BigEndian, &length); err != nil {
		return reply{}, err
	}
	answer := make([]byte, length)
	if _, err := io.ReadFull(c.r, answer); err != nil {
		return reply{}, err
	}
	n, pid, err := tellIdentity(answer)
	if err == nil && n != 0x4444 {
		err = fmt.Errorf("the answer to question %#x", n)
	}
	return reply{pid: pid}, err
}

// TestDNSTwentyRestarts: a DNS server under 5,000 questions a second over UDP, and as many over TCP, at the same port, as there is time for.
func TestDNSTwentyRestarts(t *testing.T) {
	const restarts, rate = 20, 5000
	eachLevel(t, func(t *testing.T, level string) {
		s := nsd(t)
		h := s.run(t, level)
		l := startLoad(t, s.addr, askIdentityTCP, 1)
		q := startQuestions(t, "udp", s.addr, rate, askIdentity, tellIdentity)
		h.restartsUnderQuestions(q, restarts, "nsd at "+level)
		l.check("nsd over TCP at " + level)
	})
}
