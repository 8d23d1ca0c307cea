package sockdiag

import (
	"encoding/binary"
	"errors"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// diagMessage is a struct inet_diag_msg.
func diagMessage(family byte, port uint16, inode uint32) []byte {
	b := make([]byte, sizeofMessage)
	b[0], b[1] = family, TCPEstablished
	binary.BigEndian.PutUint16(b[requestPortAt:], port)
	binary.NativeEndian.PutUint32(b[messageInodeAt:], inode)
	return b
}

func TestDiagAnswers(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	message := func(flags netlink.HeaderFlags, sequence uint32, data []byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: tcpDiagGetSock, Flags: flags | netlink.Multi, Sequence: sequence}, Data: data}
	}
	good := message(0, 7, diagMessage(unix.AF_INET, 80, 1))
	for _, test := range []struct {
		name     string
		messages []netlink.Message
		err      error // at the end
		want     int
		wantErr  error // any, if broken
	}{
		{"two", []netlink.Message{good, message(0, 7, diagMessage(unix.AF_INET6, 80, 2))}, nil, 2, nil},
		{"another port", []netlink.Message{good, message(0, 7, diagMessage(unix.AF_INET, 81, 2))}, nil, 1, nil},
		{"interrupted", []netlink.Message{good, message(netlink.DumpInterrupted, 7, diagMessage(unix.AF_INET, 80, 2)), good}, nil, 0, errInterrupted},
		{"another request's", []netlink.Message{good, message(0, 6, diagMessage(unix.AF_INET, 80, 1))}, nil, 0, broken},
		{"short", []netlink.Message{good, message(0, 7, make([]byte, sizeofMessage-1))}, nil, 0, broken},
		{"another family", []netlink.Message{good, message(0, 7, diagMessage(unix.AF_UNIX, 80, 1))}, nil, 0, broken},
		{"failure after some", []netlink.Message{good}, broken, 0, broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			answer := iter.Seq2[netlink.Message, error](func(yield func(netlink.Message, error) bool) {
				for _, m := range test.messages {
					if !yield(m, nil) {
						return
					}
				}
				if test.err != nil {
					yield(netlink.Message{}, test.err)
				}
			})
			list, err := appendConnections(nil, answer, 7, portSet(80))
			if (err == nil) != (test.wantErr == nil) || test.wantErr == errInterrupted && err != errInterrupted {
				t.Fatalf("error %v, want %v", err, test.wantErr)
			}
			if len(list) != test.want {
				t.Fatalf("%v, want %d", list, test.want)
			}
		})
	}
}

func TestDiagRepeatsWithABound(t *testing.T) {
	t.Parallel()
	count := 0
	if err := untilConsistent(func() error { count++; return errInterrupted }); !errors.Is(err, errInterrupted) || count != maxDumps {
		t.Errorf("%d times, then %v", count, err)
	}
	count = 0
	err := untilConsistent(func() error {
		if count++; count < 3 {
			return errInterrupted
		}
		return nil
	})
	if err != nil || count != 3 {
		t.Errorf("%d times, then %v", count, err)
	}
}

// filterMatches runs a port filter as inet_diag_bc_run does.
func filterMatches(t *testing.T, program []byte, port uint16) bool {
	t.Helper()
	length := len(program)
	for length > 0 {
		op := program[len(program)-length:]
		yes := op[0] == opSourceCond && binary.NativeEndian.Uint32(op[8:]) == uint32(port)
		if yes {
			length -= int(op[1])
		} else {
			length -= int(binary.NativeEndian.Uint16(op[2:]))
		}
	}
	if length != 0 && length != -sizeofOp {
		t.Fatalf("ended %d bytes behind the end", -length)
	}
	return length == 0
}

func TestDiagPortFilter(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 17, maxFilterPorts} {
		ports := make(map[uint16]struct{})
		for len(ports) < n {
			ports[uint16(rand.Uint32())] = struct{}{}
		}
		program := portFilter(ports)
		check := func(p uint16) {
			if _, want := ports[p]; filterMatches(t, program, p) != want {
				t.Fatalf("port %d of %v: not %v", p, ports, want)
			}
		}
		check(0)
		for p := range ports {
			check(p - 1)
			check(p)
			check(p + 1)
		}
	}
}

func FuzzParseConnection(f *testing.F) {
	f.Add([]byte{})
	f.Add(diagMessage(unix.AF_INET, 80, 1))
	f.Add(diagMessage(unix.AF_INET6, 80, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConnection(b)
		if err != nil {
			if c != (Connection{}) {
				t.Fatalf("error %v and %+v", err, c)
			}
			return
		}
		if !c.Local.IsValid() || !c.Remote.IsValid() || c.Local.Addr().Is4() != (c.Family == unix.AF_INET) {
			t.Fatalf("%+v", c)
		}
	})
}
