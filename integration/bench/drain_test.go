package bench

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// BenchmarkDrain measures what a gated generation costs that has many connections open: CPU time of the supervisor, all its threads, for the
// restart itself and then for each second of the drain. A drain that lasts is looked at five times a second.
func BenchmarkDrain(b *testing.B) {
	const settled, window = 1500 * time.Millisecond, 3 * time.Second
	for _, n := range []int{100, 1000, 10000} {
		b.Run(name("connections=", n), func(b *testing.B) {
			for b.Loop() {
				s := services["go"](b)
				h := run(b, s.command, "--track=auto")
				h.await(b, "generation ready", 1)
				conns := s.keptAlive(b, n)
				before := cpuTime(b, h.cmd.Process.Pid)
				h.hup()
				if e := h.await(b, "generation gated", 1); e.Connections != n {
					b.Fatalf("the old generation had %d connections, not %d", e.Connections, n)
				}
				restart := cpuTime(b, h.cmd.Process.Pid) - before
				time.Sleep(settled) // the first looks come fast
				var rates []float64
				for range 3 {
					before, began := cpuTime(b, h.cmd.Process.Pid), time.Now()
					time.Sleep(window)
					rates = append(rates, milliseconds(cpuTime(b, h.cmd.Process.Pid)-before)/time.Since(began).Seconds())
				}
				for _, c := range conns {
					c.Close()
				}
				h.await(b, "generation ended", 1)
				b.ReportMetric(milliseconds(restart), "restart-cpu-ms")
				report(b, rates, "drain-cpu-ms/s")
				row(b, []string{"open connections", "CPU of the restart until gated, ms", "CPU of the drain, ms in a second"}, fmt.Sprint(n),
					fmt.Sprintf("%.1f", milliseconds(restart)), spread(rates, "%.2f"))
			}
		})
	}
}

// keptAlive opens connections and makes one request on each, so that each is accepted.
func (s service) keptAlive(b *testing.B, n int) []net.Conn {
	b.Helper()
	conns := make([]net.Conn, 0, n)
	b.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	for range n {
		c, err := net.DialTimeout("tcp", s.addr, patience)
		if err != nil {
			b.Fatalf("cannot open %d connections: %v", n, err)
		}
		conns = append(conns, c)
		c.SetDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
		if err != nil {
			b.Fatal(err)
		}
		answer.Body.Close()
	}
	return conns
}
