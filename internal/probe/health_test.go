package probe

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// frame puts gRPC's prefix before a message.
func frame(message ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func TestHealthRequest(t *testing.T) {
	if got := healthRequest(""); !bytes.Equal(got, []byte{0, 0, 0, 0, 0}) {
		t.Errorf("without a service: % x", got)
	}
	if got := healthRequest("ab"); !bytes.Equal(got, []byte{0, 0, 0, 0, 4, 0x0a, 2, 'a', 'b'}) {
		t.Errorf("with a service: % x", got)
	}
}

func TestParseHealth(t *testing.T) {
	for _, c := range []struct {
		name   string
		framed []byte
		want   servingStatus
		err    error
	}{
		{"nothing", nil, 0, errPrefix},
		{"empty message", frame(), 0, nil},
		{"serving", frame(8, 1), 1, nil},
		{"not serving", frame(8, 2), 2, nil},
		{"the last one counts", frame(8, 1, 8, 2), 2, nil},
		{"unknown numbers", frame(0x10, 5, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1), 1, nil},
		{"unknown string", frame(0x1a, 2, 'x', 'y', 8, 1), 1, nil},
		{"the field as a string", frame(0x0a, 1, 1), 0, nil},
		{"negative", frame(8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), -1, nil},
		{"compressed", append([]byte{1}, frame(8, 1)[1:]...), 0, errCompressed},
		{"short", frame(8, 1)[:6], 0, errPrefix},
		{"two messages", append(frame(8, 1), frame(8, 1)...), 0, errPrefix},
		{"tag only", frame(8), 0, errEncoding},
		{"field 0", frame(0, 1), 0, errEncoding},
		{"group", frame(0x0b), 0, errEncoding},
		{"string too long", frame(0x12, 200, 1, 'x'), 0, errEncoding},
		{"length near 2^64", frame(0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), 0, errEncoding},
		{"fixed32 cut", frame(0x15, 1, 2), 0, errEncoding},
		{"varint without end", frame(8, 0x80, 0x80), 0, errEncoding},
	} {
		if got, err := parseHealth(c.framed); got != c.want || err != c.err {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func FuzzParseHealth(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(frame(8, 1))
	f.Add(frame(0x10, 5, 0x1a, 2, 'x', 'y', 8, 2))
	f.Fuzz(func(t *testing.T, framed []byte) {
		status, err := parseHealth(framed)
		if err != nil && status != 0 {
			t.Errorf("an error, and %v", status)
		}
		if !oneLine(status.String()) {
			t.Errorf("%q", status)
		}
	})
}
