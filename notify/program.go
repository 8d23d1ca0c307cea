package notify

import (
	"encoding/binary"
	"errors"
	"golang.org/x/sys/unix"
)

type Program []unix.SockFilter

func (p Program) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, 8*len(p))
	for _, i := range p {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b, nil
}

func (p *Program) UnmarshalBinary(b []byte) error {
	if len(b) == 0 || len(b)%8 != 0 || len(b) > 8*4096 {
		return errors.New("not a program")
	}
	for ; len(b) > 0; b = b[8:] {
		*p = append(*p, unix.SockFilter{Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:])})
	}
	return nil
}
