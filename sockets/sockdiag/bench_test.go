package sockdiag

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

// BenchmarkDiag measures one poll of a drain: all connections of a service, accepted, on one port and on two. The clients
// have closed theirs, which leaves the service's in CLOSE_WAIT, so that 10,000 need no more descriptors than that. Besides the time
// it reports the CPU time of the process, which is what a loaded machine leaves alone, and how that grows: what one more connection costs,
// against the same poll without any.
func BenchmarkDiag(b *testing.B) {
	empty := make(map[int]time.Duration) // CPU time of a poll that finds nothing, by the number of ports
	for _, n := range []int{0, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("connections=%d", n), func(b *testing.B) {
			puppets.RaiseDescriptorLimit(b, uint64(n+100))
			d := newDiag(b)
			s := newDiagServer(b, "tcp4", "127.0.0.1:0")
			for range n {
				client := s.connect(b, "127.0.0.1")
				s.accept(b)
				_ = client.Close()
			}
			s.clients = nil
			diagUntil(b, d, portSet(s.port), "closed by the clients", func(l []Connection) bool {
				for _, c := range l {
					if c.State != TCPCloseWait {
						return false
					}
				}
				return len(l) == n
			})
			for _, ports := range []map[uint16]struct{}{portSet(s.port), portSet(s.port, 1)} {
				b.Run(fmt.Sprintf("ports=%d", len(ports)), func(b *testing.B) {
					b.ReportAllocs()
					var list []Connection
					began := cpuTime(b)
					for b.Loop() {
						var err error
						if list, err = d.TCPConnections(list[:0], ports); err != nil {
							b.Fatal(err)
						}
						if len(list) != n {
							b.Fatalf("%d connections, not %d", len(list), n)
						}
					}
					each := (cpuTime(b) - began) / time.Duration(b.N)
					b.ReportMetric(float64(each)/1000, "cpu-µs/op")
					if n == 0 {
						empty[len(ports)] = each
					} else if alone, ok := empty[len(ports)]; ok {
						b.ReportMetric(float64(each-alone)/float64(n), "cpu-ns/connection")
					}
				})
			}
		})
	}
}

// cpuTime is what this process has used so far, in user mode and in the kernel.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
