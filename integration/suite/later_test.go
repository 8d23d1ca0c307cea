package suite

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"
)

// echoLater is an upstream that sends each datagram back after d. It ends with the test.
func echoLater(t *testing.T, d time.Duration) (port int) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() { // ends when conn is closed
		for {
			b := make([]byte, 2048)
			n, from, err := conn.ReadFromUDP(b)
			if err != nil {
				return
			}
			time.AfterFunc(d, func() { conn.WriteToUDP(b[:n], from) })
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// TestFaultB2AnswersLater: who has asked an upstream is waited for, as long as the sockets by which it has asked are
// open; who only takes his time is with --datagram-quiet.
func TestFaultB2AnswersLater(t *testing.T) {
	const restarts = 2
	for _, c := range []struct {
		how   string
		flags []string
		rate  int
	}{
		{"sleeps", []string{"--datagram-quiet=2s"}, 200},
		{"epoll", nil, 8},
		{"poll", nil, 8},
		{"threads", nil, 8},
	} {
		for _, mode := range []string{"--fork", "--exec"} {
			t.Run(c.how+" "+mode[2:], func(t *testing.T) {
				eachLevel(t, func(t *testing.T, level string) {
					port := freeUDPPort(t)
					s := service{name: c.how, command: []string{program(t, "/usr/bin/python3", "python3"), "testdata/answers_later.py",
						c.how, strconv.Itoa(port), strconv.Itoa(echoLater(t, 900*time.Millisecond)), "1.2"}}
					if c.how == "poll" || c.how == "threads" {
						// These are gated at a moment when no question is open: there must be some.
						s.command[4] = strconv.Itoa(echoLater(t, 120*time.Millisecond))
					}
					h := s.run(t, level, append(c.flags, mode)...)
					q := startQuestions(t, "udp", fmt.Sprintf("127.0.0.1:%d", port), c.rate, askEcho, tellEcho)
					h.restartsUnderQuestions(q, restarts, c.how+mode+" at "+level)
				})
			})
		}
	}
}
