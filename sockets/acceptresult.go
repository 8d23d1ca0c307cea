package sockets

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// takesFlags tells accept4 from accept, which has three arguments, by the numbers of the caller's ABI. Of i386 socketcall's either is decoded so that
// the fourth is there or 0.
func takesFlags(r *notify.Request) bool {
	const x32Accept4, armAccept4 = 1<<30 | 288, 366
	switch r.Arch {
	case notify.ArchI386:
		return true // it has no accept but socketcall's
	case notify.ArchARM:
		return r.Number == armAccept4
	}
	return r.Number == unix.SYS_ACCEPT4 || r.Number == x32Accept4
}

// writePeer writes an address without a host where accept(2) would write the client's.
func writePeer(r *notify.Request, family uint16) error {
	var length [4]byte
	if err := r.ReadMemory(r.Args[2], length[:]); err != nil {
		return err
	}
	address := make([]byte, map[uint16]int{unix.AF_INET: 16, unix.AF_INET6: sockaddr.SizeofIn6, unix.AF_UNIX: 2}[family])
	binary.NativeEndian.PutUint16(address, family)
	room := min(int(binary.NativeEndian.Uint32(length[:])), len(address))
	if err := r.WriteMemory(r.Args[1], address[:room]); err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(length[:], uint32(len(address)))
	return r.WriteMemory(r.Args[2], length[:])
}
