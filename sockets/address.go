package sockets

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
	sizeofSockaddrIn      = 16
	sizeofSockaddrIn6     = 28
	sizeofSockaddrRFC2133 = 24  // sockaddr_in6 before it had a scope id; still accepted
	sizeofSockaddrStorage = 128 // move_addr_to_kernel answers EINVAL above it
)

var (
	// ErrOtherFamily: the address is of a family that is none of AF_INET, AF_INET6, AF_UNIX and AF_VSOCK.
	ErrOtherFamily = errors.New("address of another family")
	// ErrShortSockaddr: too short for its family; the kernel would answer EINVAL.
	ErrShortSockaddr = errors.New("address too short")
	// ErrLongSockaddr: longer than any address may be; the kernel would answer EINVAL.
	ErrLongSockaddr = errors.New("address too long")
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

// ParseSockaddr parses a sockaddr as it was read from a process: any length, any content. What it accepts is what bind(2) of the
// family would accept to look at (net/ipv4/af_inet.c, inet_bind_sk and __inet_bind; net/ipv6/af_inet6.c, the same).
// The error matches ErrOtherFamily, ErrShortSockaddr or ErrLongSockaddr.
func ParseSockaddr(b []byte) (Address, error) {
	if len(b) < 2 {
		return Address{}, fmt.Errorf("cannot parse address of %d bytes: %w", len(b), ErrShortSockaddr)
	}
	if len(b) > sizeofSockaddrStorage {
		return Address{}, fmt.Errorf("cannot parse address of %d bytes: %w", len(b), ErrLongSockaddr)
	}
	switch family := binary.NativeEndian.Uint16(b); family {
	case unix.AF_INET:
		if len(b) < sizeofSockaddrIn {
			return Address{}, fmt.Errorf("cannot parse IPv4 address of %d bytes: %w", len(b), ErrShortSockaddr)
		}
		return address4([4]byte(b[4:8]), binary.BigEndian.Uint16(b[2:])), nil

	case unix.AF_UNSPEC:
		// Linux takes it for AF_INET if the address is INADDR_ANY, for old programs that never set the family. An IPv6
		// socket refuses it; that the socket is of the address's family is for the caller to see to.
		if len(b) >= sizeofSockaddrIn && [4]byte(b[4:8]) == [4]byte{} {
			return address4([4]byte{}, binary.BigEndian.Uint16(b[2:])), nil
		}
		return Address{}, fmt.Errorf("cannot parse address of family %d: %w", family, ErrOtherFamily)

	case unix.AF_INET6:
		if len(b) < sizeofSockaddrRFC2133 {
			return Address{}, fmt.Errorf("cannot parse IPv6 address of %d bytes: %w", len(b), ErrShortSockaddr)
		}
		var scope uint32
		if len(b) >= sizeofSockaddrIn6 {
			scope = binary.NativeEndian.Uint32(b[24:])
		}
		return address6([16]byte(b[8:24]), binary.BigEndian.Uint16(b[2:]), scope), nil

	case unix.AF_UNIX:
		if len(b) > sizeofSockaddrUn {
			return Address{}, fmt.Errorf("cannot parse unix address of %d bytes: %w", len(b), ErrLongSockaddr)
		}
		return Address{Family: unix.AF_UNIX, Name: unixSocketName(b[2:])}, nil

	case unix.AF_VSOCK:
		if len(b) < sizeofSockaddrVM {
			return Address{}, fmt.Errorf("cannot parse vsock address of %d bytes: %w", len(b), ErrShortSockaddr)
		}
		return addressVM(binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[4:])), nil

	default:
		return Address{}, fmt.Errorf("cannot parse address of family %d: %w", family, ErrOtherFamily)
	}
}

// SockaddrOf converts what getsockname(2) and its like return for an internet or vsock socket; not ok for other families. (x/sys
// can't tell an abstract name from a path that begins with "@".)
func SockaddrOf(sa unix.Sockaddr) (Address, bool) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return address4(sa.Addr, uint16(sa.Port)), true
	case *unix.SockaddrInet6:
		return address6(sa.Addr, uint16(sa.Port), sa.ZoneId), true
	case *unix.SockaddrVM:
		return addressVM(sa.CID, sa.Port), true
	}
	return Address{}, false
}

func address4(ip [4]byte, port uint16) Address {
	return Address{Family: unix.AF_INET, AddrPort: netip.AddrPortFrom(netip.AddrFrom4(ip), port)}
}

func address6(ip [16]byte, port uint16, scope uint32) Address {
	addr := netip.AddrFrom16(ip)
	// For any other address bind ignores the scope id and getsockname returns 0: if it were kept, a program that leaves
	// rubbish there would never match its own socket again.
	if scope != 0 && needsScope(addr) {
		addr = addr.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return Address{Family: unix.AF_INET6, AddrPort: netip.AddrPortFrom(addr, port)}
}

// needsScope is __ipv6_addr_needs_scope_id of include/net/ipv6.h.
func needsScope(addr netip.Addr) bool {
	return addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast() || addr.IsInterfaceLocalMulticast()
}

// Port returns the port; 0 means that the kernel is to choose one, or that it is no internet address.
func (a Address) Port() uint16 { return a.AddrPort.Port() }

// chosen tells whether the kernel is to choose the port or the name: such an address never matches.
func (a Address) chosen() bool {
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
		return shownUnix(a.Name)
	case unix.AF_VSOCK:
		return a.Machine.String()
	}
	return a.AddrPort.String()
}

// sockaddr is an internet address as bind takes it.
func (a Address) sockaddr() unix.Sockaddr {
	if a.Family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.AddrPort.Addr().As4()}
	}
	scope, _ := strconv.ParseUint(a.AddrPort.Addr().Zone(), 10, 32)
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.AddrPort.Addr().As16(), ZoneId: uint32(scope)}
}
