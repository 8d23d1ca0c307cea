package bench

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// words tell testdata/load.c what to ask, how the answer begins, and how it ends where the service does not close the connection.
func words(kind string) []string {
	if kind == "redis" {
		return []string{"PING\r\n", "+PONG\r\n", "\r\n"}
	}
	return []string{"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "}
}

// rate returns the requests a second that the service answers, a connection for each. The clients are one thread of a C program, so
// that on a small machine the service is what limits. A failed request ends the benchmark: it would be no measure of anything.
func (s service) rate(b *testing.B, kind string, d time.Duration) float64 {
	b.Helper()
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(client, append([]string{port, strconv.Itoa(clients), fmt.Sprint(d.Milliseconds())}, words(kind)...)...)
	out, err := cmd.CombinedOutput()
	var answered, seconds float64
	if n, _ := fmt.Sscan(string(out), &answered, &seconds); n != 2 || err != nil {
		b.Fatalf("%s: %v: %s", kind, err, out)
	}
	return answered / seconds
}
