package puppets

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sockaddr builds the bytes of a sockaddr: the family in this machine's order, the rest as it goes over the wire.
func Sockaddr(family uint16, rest ...byte) []byte {
	return append(binary.NativeEndian.AppendUint16(nil, family), rest...)
}

// Sockaddr6 builds those of a sockaddr_in6.
func Sockaddr6(ip string, port uint16, scope uint32) []byte {
	b := Sockaddr(unix.AF_INET6)
	b = binary.BigEndian.AppendUint16(b, port)
	b = append(b, 0xde, 0xad, 0xbe, 0xef) // flow information: of no consequence
	a := netip.MustParseAddr(ip).As16()
	b = append(b, a[:]...)
	return binary.NativeEndian.AppendUint32(b, scope)
}
