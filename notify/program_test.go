package notify

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var twoInstructions = Program{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4},
	{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
}

func TestProgramBinary(t *testing.T) {
	for _, length := range []int{1, 2, 4096} {
		p := make(Program, length)
		for i := range p {
			p[i] = unix.SockFilter{Code: uint16(i), Jt: uint8(i + 1), Jf: uint8(i + 2), K: 0x01020304 * uint32(i)}
		}
		b, err := p.MarshalBinary()
		if err != nil || len(b) != 8*length {
			t.Fatalf("MarshalBinary of %d instructions: %d bytes, %v", length, len(b), err)
		}
		var back Program
		if err := back.UnmarshalBinary(b); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("%d instructions came back as %d, %v", length, len(back), err)
		}
	}
}

func TestProgramBinaryRefuses(t *testing.T) {
	for _, length := range []int{0, 1, 7, 9, 4096*8 + 1, 4097 * 8} {
		p := append(Program(nil), twoInstructions...)
		if err := p.UnmarshalBinary(make([]byte, length)); err == nil {
			t.Errorf("UnmarshalBinary took %d bytes", length)
		}
		if !reflect.DeepEqual(p, twoInstructions) {
			t.Errorf("UnmarshalBinary refused %d bytes, but changed the program", length)
		}
	}
	for _, length := range []int{0, 4097} {
		if _, err := make(Program, length).MarshalBinary(); err == nil {
			t.Errorf("MarshalBinary took %d instructions", length)
		}
	}
}

// A Program that is read into again must not keep its old instructions.
func TestProgramBinaryReplaces(t *testing.T) {
	p := make(Program, 10)
	b, err := twoInstructions.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.UnmarshalBinary(b); err != nil || !reflect.DeepEqual(p, twoInstructions) {
		t.Errorf("%v, %v", p, err)
	}
}

func TestProgramString(t *testing.T) {
	p := append(append(Program(nil), twoInstructions...), unix.SockFilter{Code: 0xffff, Jt: 1, Jf: 2, K: 3})
	const want = "   0: ld [4]\n   1: ret #2147418112\n   2: .code 0xffff, 1, 2, 0x3\n"
	if got := p.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func FuzzProgramBinary(f *testing.F) {
	for _, level := range []Level{LevelConnections, LevelListeners, LevelCalls} {
		p, err := BuildFilter(level)
		if err != nil {
			f.Fatal(err)
		}
		b, err := p.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add(make([]byte, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Program
		valid := len(b) > 0 && len(b)%8 == 0 && len(b) <= 4096*8
		if err := p.UnmarshalBinary(b); valid != (err == nil) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if lines := strings.Count(p.String(), "\n"); lines != len(p) {
			t.Errorf("%d instructions are %d lines", len(p), lines)
		}
		if !valid {
			return
		}
		if back, err := p.MarshalBinary(); err != nil || !bytes.Equal(back, b) {
			t.Errorf("%x came back as %x, %v", b, back, err)
		}
	})
}
