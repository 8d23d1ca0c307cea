package sockdiag

import (
	"encoding/binary"
	"errors"
	"iter"
	"reflect"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What a struct tcp_info says is read where the kernel's has it, however long it is: each kernel has its own length.
func FuzzTCPInfo(f *testing.F) {
	f.Add([]byte{}, uint16(248), uint64(1), uint64(0), uint32(10), uint32(20))
	f.Add([]byte("\x06\x00\x08\x00cubi\x0c\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00"),
		uint16(104), uint64(0), uint64(0), uint32(1), uint32(0))
	f.Add([]byte("\xff\xff\x02\x00"), uint16(135), uint64(2), uint64(1), ^uint32(0), uint32(7))
	f.Add([]byte("\x03\x00\x02\x00"), uint16(56), uint64(0), ^uint64(0), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, attributes []byte, length uint16, acked, received uint64, sent, heard uint32) {
		if idle := idleTime(attributes); idle < 0 || idle > 1<<32*time.Millisecond {
			t.Fatalf("%x: idle for %v", attributes, idle)
		}
		if neverUsed(attributes) && len(attributes) < infoBytesReceivedAt+8 {
			t.Fatalf("%x says that it was never used", attributes)
		}
		info := make([]byte, 256)
		binary.NativeEndian.PutUint32(info[44:], sent) // struct tcp_info of include/uapi/linux/tcp.h
		binary.NativeEndian.PutUint32(info[52:], heard)
		binary.NativeEndian.PutUint64(info[120:], acked)
		binary.NativeEndian.PutUint64(info[128:], received)
		info = info[:int(length)%(len(info)+1)]
		whole, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: 6, Data: []byte("cubic\x00")}, {Type: attributeInfo, Data: info}, {Type: 3, Data: make([]byte, 12)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := neverUsed(whole), len(info) >= 136 && acked <= 1 && received == 0; got != want {
			t.Fatalf("%d bytes, %d acknowledged, %d received: never used: %t", len(info), acked, received, got)
		}
		var want time.Duration
		if len(info) >= 56 {
			want = time.Duration(min(sent, heard)) * time.Millisecond
		}
		if got := idleTime(whole); got != want {
			t.Fatalf("%d bytes: idle for %v, want %v", len(info), got, want)
		}
		c, err := parseConnection(append(diagMessage(unix.AF_INET, 80, 1), whole...))
		if err != nil || c.Idle != want || c.Queued {
			t.Fatalf("%+v, %v", c, err)
		}
	})
}

// An answer is read to its end, or up to what is wrong with it; then what there was before is what there is.
func FuzzDiagAnswers(f *testing.F) {
	unixData := unixMessage(1, 5, netlink.Attribute{Type: unixName, Data: []byte("/run/x\x00")})
	f.Add([]byte{0, 0, 0}, diagMessage(unix.AF_INET, 80, 1), unixData, uint16(80))
	f.Add([]byte{0, 1, 0}, diagMessage(unix.AF_INET6, 80, 1), unixData, uint16(81))
	f.Add([]byte{0, 2, 4}, diagMessage(unix.AF_INET, 80, 1), unixData[:17], uint16(80))
	f.Add([]byte{8, 0, 16, 0}, []byte{}, []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, kinds, inet, unixData []byte, port uint16) {
		const sequence = 7
		broken := errors.New("broken")
		answer := func(data []byte, kind netlink.HeaderType) iter.Seq2[netlink.Message, error] {
			return func(yield func(netlink.Message, error) bool) {
				for _, k := range kinds {
					m := netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Multi, Sequence: sequence}, Data: data}
					var err error
					switch {
					case k&1 != 0:
						m.Header.Flags |= netlink.DumpInterrupted
					case k&2 != 0:
						m.Header.Sequence--
					case k&4 != 0:
						m.Header.Type++
					case k&8 != 0:
						err = broken
					case k&16 != 0:
						m.Data = nil
					}
					if !yield(m, err) {
						return
					}
				}
			}
		}
		c, bad := parseConnection(inet)
		s, badUnix := parseUnixSocket(unixData)
		// expect is how many are listed, and whether that ends well.
		expect := func(bad error, listed bool) (n int, interrupted, ok bool) {
			for _, k := range kinds {
				switch {
				case k&1 != 0:
					interrupted = true
				case k&2 != 0:
					return n, false, false
				case k&4 != 0:
					continue
				case k&8 != 0, k&16 != 0:
					return n, false, false
				}
				if bad != nil {
					return n, false, false
				}
				if listed {
					n++
				}
			}
			return n, interrupted, true
		}
		kept := []Connection{{Inode: 99}}
		list, err := appendConnections(kept, answer(inet, tcpDiagGetSock), sequence, portSet(port))
		n, interrupted, ok := expect(bad, c.Local.Port() == port)
		switch {
		case ok && !interrupted && (err != nil || len(list) != n+1 || list[0] != kept[0] || n > 0 && list[1] != c):
			t.Fatalf("%x of %x: %+v, %v, want %d", kinds, inet, list, err, n)
		case ok && interrupted && err != errInterrupted, !ok && (err == nil || err == errInterrupted):
			t.Fatalf("%x of %x: %v", kinds, inet, err)
		case err != nil && !reflect.DeepEqual(list, kept):
			t.Fatalf("%x of %x: %+v with %v", kinds, inet, list, err)
		}
		visited := 0
		err = visitUnix(answer(unixData, unix.SOCK_DIAG_BY_FAMILY), sequence, func(got UnixSocket) {
			if visited++; got != s {
				t.Fatalf("%x: %+v", unixData, got)
			}
		})
		n, interrupted, ok = expect(badUnix, true)
		if visited != n || (err == nil) != (ok && !interrupted) || (err == errInterrupted) != (ok && interrupted) {
			t.Fatalf("%x of %x: %d visited, %v, want %d", kinds, unixData, visited, err, n)
		}
	})
}
