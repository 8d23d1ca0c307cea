package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkDatagrams sends 20,000 questions a second to a UDP echo server, in windows with one restart a second and without in turns, and
// counts the answers.
func BenchmarkDatagrams(b *testing.B) {
	const pairs, window, rate = 7, restartsInWindow * time.Second, 20_000
	for _, level := range []string{"listeners", "connections"} {
		b.Run(level, func(b *testing.B) {
			for b.Loop() {
				addr := local(freeDatagramPort(b))
				h := run(b, []string{goserver, "-datagrams", "udp/" + addr}, "--track="+level)
				h.await(b, "generation ready", 1)
				generation := 1
				figures := map[string][]float64{}
				for i := range pairs {
					for k := range 2 {
						which := "quiet-"
						var restarts <-chan error
						if (i+k)%2 == 1 {
							which, restarts = "restarts-", h.restartsEverySecond(&generation)
						}
						r := askDatagrams(b, addr, rate, window)
						if restarts != nil {
							if err := <-restarts; err != nil {
								b.Fatal(err)
							}
						}
						slices.Sort(r.times)
						for name, value := range map[string]float64{
							"asked/s": float64(r.asked) / window.Seconds(), "lost": float64(r.asked - len(r.times)), "twice": float64(r.twice),
							"p50-ms": quantile(r.times, 0.5), "p99.9-ms": quantile(r.times, 0.999), "max-ms": quantile(r.times, 1),
						} {
							figures[which+name] = append(figures[which+name], value)
						}
					}
				}
				for _, which := range []string{"quiet-", "restarts-"} {
					cells := []string{level + map[string]string{"quiet-": ", without", "restarts-": ", with restarts"}[which]}
					for _, name := range []string{"asked/s", "lost", "twice", "p50-ms", "p99.9-ms", "max-ms"} {
						values, format := figures[which+name], "%.2f"
						switch name {
						case "lost", "twice": // all of them count
							all := 0.0
							for _, n := range values {
								all += n
							}
							b.ReportMetric(all, which+name)
							cells = append(cells, fmt.Sprintf("%.0f", all))
							continue
						case "asked/s":
							format = "%.0f"
						}
						report(b, values, which+name)
						cells = append(cells, spread(values, format))
					}
					row(b, []string{"level", "asked a second", "lost, of all", "answered twice", "p50, ms", "p99.9, ms", "longest, ms"}, cells...)
				}
			}
		})
	}
}

// answers are those to the questions of one window.
type answers struct {
	asked, twice int
	times        []time.Duration // of each question that was answered, in no order
}

// askDatagrams asks numbered questions at a rate, on the average: a tick that comes late makes up for what it has missed.
func askDatagrams(b *testing.B, addr string, rate int, window time.Duration) answers {
	b.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	// As the server does: on a busy machine nobody may read for a while, and what the client's own queue has no room for would count as lost.
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 32<<20)
		}
	})
	most := int(window.Seconds()*float64(rate)) + 1
	sent, took := make([]time.Duration, most), make([]time.Duration, most)
	var r answers
	var mu sync.Mutex // sent is written before the question is, and read when its answer has come; the race detector can't know
	var receiving sync.WaitGroup
	began := time.Now()
	receiving.Go(func() {
		buf := make([]byte, 64)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					b.Errorf("answer: %v", err)
				}
				return
			}
			_, number, ok := bytes.Cut(buf[:n], []byte(" "))
			if !ok || len(number) != 8 {
				b.Errorf("answer %q", buf[:n])
				return
			}
			i := int(binary.BigEndian.Uint64(number))
			now := time.Since(began)
			mu.Lock()
			if took[i] != 0 {
				r.twice++
			} else {
				took[i] = now - sent[i]
				r.times = append(r.times, took[i])
			}
			mu.Unlock()
		}
	})
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for since := time.Duration(0); since < window; since = time.Since(began) {
		for due := int(since.Seconds() * float64(rate)); r.asked < due; r.asked++ {
			mu.Lock()
			sent[r.asked] = time.Since(began)
			mu.Unlock()
			if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, uint64(r.asked))); err != nil {
				b.Fatalf("question: %v", err)
			}
		}
		<-tick.C
	}
	// What is under way is answered in a moment; what is not answered within the second is lost.
	conn.SetReadDeadline(time.Now().Add(time.Second))
	receiving.Wait()
	if len(r.times) == 0 {
		b.Fatal("no question was answered")
	}
	return r
}

// freeDatagramPort is a port that nobody has just now.
func freeDatagramPort(b *testing.B) int {
	b.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}
