package sockaddr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Lengths of an address as the kernel judges them (include/linux/socket.h, include/net/ipv6.h).
const (
	SizeofIn      = 16
	SizeofIn6     = 28
	sizeofRFC2133 = 24  // sockaddr_in6 before it had a scope id; still accepted
	SizeofStorage = 128 // move_addr_to_kernel answers EINVAL above it
)

var (
	// ErrOtherFamily: the address is of a family that is none of AF_INET, AF_INET6, AF_UNIX and AF_VSOCK.
	ErrOtherFamily = errors.New("address of another family")
	// ErrShort: too short for its family; the kernel would answer EINVAL.
	ErrShort = errors.New("address too short")
	// ErrLong: longer than any address may be; the kernel would answer EINVAL.
	ErrLong = errors.New("address too long")
)

// Address is an internet address and port, the name of a unix socket, or a machine and port, as bind(2) is given it or getsockname(2) returns it. It is comparable.
type Address struct {
	// Family is AF_INET, AF_INET6, AF_UNIX or AF_VSOCK. It is part of the address: an IPv4-mapped IPv6 address stays one, because its
	// socket is an IPv6 one. A bind succeeds only where the socket is of this family.
	Family uint16
	// AddrPort has a zone only where the kernel takes note of the scope id: the id in decimal, for a link-local address.
	AddrPort netip.AddrPort
	// Name is for AF_UNIX only: the path as the process wrote it, or NUL and the abstract name. "" means that the
	// kernel is to choose one (autobind).
	Name string
	// Machine is for AF_VSOCK only.
	Machine Machine
}

// Parse parses a sockaddr as it was read from a process: any length, any content. What it accepts is what bind(2) of the
// family would accept to look at (net/ipv4/af_inet.c, inet_bind_sk and __inet_bind; net/ipv6/af_inet6.c, the same).
// The error matches ErrOtherFamily, ErrShort or ErrLong.
func Parse(b []byte) (Address, error) {
	if len(b) < 2 {
		return Address{}, fmt.Errorf("cannot parse address of %d bytes: %w", len(b), ErrShort)
	}
	if len(b) > SizeofStorage {
		return Address{}, fmt.Errorf("cannot parse address of %d bytes: %w", len(b), ErrLong)
	}
	switch family := binary.NativeEndian.Uint16(b); family {
	case unix.AF_INET:
		if len(b) < SizeofIn {
			return Address{}, fmt.Errorf("cannot parse IPv4 address of %d bytes: %w", len(b), ErrShort)
		}
		return IPv4([4]byte(b[4:8]), binary.BigEndian.Uint16(b[2:])), nil

	case unix.AF_UNSPEC:
		// Linux takes it for AF_INET if the address is INADDR_ANY, for old programs that never set the family. An IPv6
		// socket refuses it; that the socket is of the address's family is for the caller to see to.
		if len(b) >= SizeofIn && [4]byte(b[4:8]) == [4]byte{} {
			return IPv4([4]byte{}, binary.BigEndian.Uint16(b[2:])), nil
		}
		return Address{}, fmt.Errorf("cannot parse address of family %d: %w", family, ErrOtherFamily)

	case unix.AF_INET6:
		if len(b) < sizeofRFC2133 {
			return Address{}, fmt.Errorf("cannot parse IPv6 address of %d bytes: %w", len(b), ErrShort)
		}
		var scope uint32
		if len(b) >= SizeofIn6 {
			scope = binary.NativeEndian.Uint32(b[24:])
		}
		return IPv6([16]byte(b[8:24]), binary.BigEndian.Uint16(b[2:]), scope), nil

	case unix.AF_UNIX:
		if len(b) > SizeofUn {
			return Address{}, fmt.Errorf("cannot parse unix address of %d bytes: %w", len(b), ErrLong)
		}
		return Address{Family: unix.AF_UNIX, Name: UnixName(b[2:])}, nil

	case unix.AF_VSOCK:
		if len(b) < SizeofVM {
			return Address{}, fmt.Errorf("cannot parse vsock address of %d bytes: %w", len(b), ErrShort)
		}
		return VM(binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[4:])), nil

	default:
		return Address{}, fmt.Errorf("cannot parse address of family %d: %w", family, ErrOtherFamily)
	}
}

// Of converts what getsockname(2) and its like return for an internet or vsock socket; not ok for other families. (x/sys
// can't tell an abstract name from a path that begins with "@".)
func Of(sa unix.Sockaddr) (Address, bool) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return IPv4(sa.Addr, uint16(sa.Port)), true
	case *unix.SockaddrInet6:
		return IPv6(sa.Addr, uint16(sa.Port), sa.ZoneId), true
	case *unix.SockaddrVM:
		return VM(sa.CID, sa.Port), true
	}
	return Address{}, false
}

// IPv4 is an address of AF_INET.
func IPv4(ip [4]byte, port uint16) Address {
	return Address{Family: unix.AF_INET, AddrPort: netip.AddrPortFrom(netip.AddrFrom4(ip), port)}
}

// IPv6 is an address of AF_INET6. The scope id is kept only where the kernel takes note of it.
func IPv6(ip [16]byte, port uint16, scope uint32) Address {
	addr := netip.AddrFrom16(ip)
	// For any other address bind ignores the scope id and getsockname returns 0: if it were kept, a program that leaves
	// rubbish there would never match its own socket again.
	if scope != 0 && NeedsScope(addr) {
		addr = addr.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return Address{Family: unix.AF_INET6, AddrPort: netip.AddrPortFrom(addr, port)}
}

// NeedsScope is __ipv6_addr_needs_scope_id of include/net/ipv6.h.
func NeedsScope(addr netip.Addr) bool {
	return addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast() || addr.IsInterfaceLocalMulticast()
}

// Port returns the port; 0 means that the kernel is to choose one, or that it is no internet address.
func (a Address) Port() uint16 { return a.AddrPort.Port() }

// Chosen tells whether the kernel is to choose the port or the name: such an address never matches.
func (a Address) Chosen() bool {
	switch a.Family {
	case unix.AF_UNIX:
		return a.Name == ""
	case unix.AF_VSOCK:
		return a.Machine.Port == unix.VMADDR_PORT_ANY
	}
	return a.Port() == 0
}

// String returns "127.0.0.1:80", "[::1]:80", "unix:/run/x", "unix:@name" or "3:1234".
func (a Address) String() string {
	switch a.Family {
	case unix.AF_UNIX:
		return UnixString(a.Name)
	case unix.AF_VSOCK:
		return a.Machine.String()
	}
	return a.AddrPort.String()
}

// Sockaddr is an internet address as bind takes it.
func (a Address) Sockaddr() unix.Sockaddr {
	if a.Family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.AddrPort.Addr().As4()}
	}
	scope, _ := strconv.ParseUint(a.AddrPort.Addr().Zone(), 10, 32)
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.AddrPort.Addr().As16(), ZoneId: uint32(scope)}
}
