package suite

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// idler is a client that keeps its connection open while it has nothing to ask, as browsers and connection pools do. It sends a request
// anew, on another connection, only where the one that it sent it on had been idle and was closed before anything of an answer came: what HTTP lets a
// client do (RFC 9110, 9.2.2).
type idler struct {
	conn *client
	anew int
}

func (c *idler) ask(s service) error {
	for {
		fresh := c.conn == nil
		if fresh {
			var err error
			if c.conn, err = dial(s.addr, true); err != nil {
				return err
			}
		}
		c.conn.conn.SetDeadline(time.Now().Add(requestLimit))
		_, err := s.ask(c.conn)
		if err == nil {
			return nil
		}
		c.close()
		if fresh || !closedWhileIdle(err) {
			return err
		}
		c.anew++
	}
}

func (c *idler) close() {
	if c.conn != nil {
		c.conn.conn.Close()
		c.conn = nil
	}
}

// closedWhileIdle: an end before the first byte of an answer, or a reset by what was sent after the other side had closed.
func closedWhileIdle(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// TestIdleTimeout: kept-alive clients that are idle do not hold an old generation back, and see an ordinary close of an idle connection.
func TestIdleTimeout(t *testing.T) {
	// On a busy machine a service was seen to take two seconds for an answer, in which the kernel calls its connection idle.
	const restarts, idle = 8, 4 * time.Second
	for name, make := range map[string]func(t *testing.T) service{"go": func(t *testing.T) service { return golang(t) }, "node": node} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				t.Parallel()
				s := make(t)
				h := s.run(t, level, "--idle-timeout="+idle.String())
				l := startLoad(t, s.addr, s.ask, 1) // busy ones beside them
				var idlers [8]idler
				t.Cleanup(func() {
					for i := range idlers {
						idlers[i].close()
					}
				})
				var waits []time.Duration
				for i := range restarts {
					var asking sync.WaitGroup
					for j := range idlers {
						asking.Go(func() {
							if err := idlers[j].ask(s); err != nil {
								t.Errorf("idle client: %v", err)
							}
						})
					}
					asking.Wait()
					h.hup()
					h.await("restart finished", i+2)
					began := time.Now()
					h.await("generation ended", i+1)
					waits = append(waits, time.Since(began))
				}
				anew := 0
				for _, c := range idlers {
					anew += c.anew
				}
				l.check(fmt.Sprintf("busy clients of %s at %s", name, level))
				slices.Sort(waits)
				median, longest := waits[len(waits)/2], waits[len(waits)-1]
				t.Logf("%d idle clients sent %d requests anew; an old generation was there for %v more, at the longest %v", len(idlers), anew,
					median.Round(time.Millisecond), longest.Round(time.Millisecond))
				// The median, because a busy machine may hold up any one of them.
				if median > 2*idle {
					t.Errorf("half of the old generations were there for %v more, with an idle timeout of %v", median, idle)
				}
				if n := h.count("idle connections are closed"); n != restarts {
					t.Errorf("%d of %d old generations were ended with idle connections", n, restarts)
				}
			})
		})
	}
}
