package sockaddr

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/internal/proc"
)

// Key says what a socket stands for: two binds with equal keys ask for the
// same thing. It is comparable.
type Key struct {
	NetNS    uint64 // cookie of the network namespace, or the namespace's inode before Linux 5.14
	Type     int    // SOCK_STREAM, ...
	Protocol int    // IPPROTO_TCP, IPPROTO_MPTCP, ...
	V6Only   bool   // IPV6_V6ONLY; false for AF_INET
	Device   int    // SO_BINDTOIFINDEX: the bound device's index, or 0
	Address  Address
	// Place is what the path of a unix socket stands for; Address has no name then, because one place has many.
	Place paths.Place
}

// String is the key for people: "tcp://127.0.0.1:80", "unix:/run/x", with what two keys of one address differ in.
func (k Key) String() string {
	if k.Place.Name != "" {
		return UnixString(k.Place.Name)
	}
	if k.Address.Family == unix.AF_UNIX {
		return k.Address.String()
	}
	s := "tcp://"
	switch {
	case k.Address.Family == unix.AF_VSOCK:
		s = "vsock://"
	case k.Type == unix.SOCK_STREAM:
	case k.Type == unix.SOCK_DGRAM:
		s = "udp://"
	default:
		s = fmt.Sprintf("type %d, ", k.Type)
	}
	s += k.Address.String()
	if k.V6Only {
		s += " (IPv6 only)"
	}
	if k.Device != 0 {
		s += fmt.Sprintf(" (device %d)", k.Device)
	}
	return s
}

// At completes a key with its address. Binding an IPv6 address makes a socket
// IPv6-only by itself (__inet6_bind in net/ipv6/af_inet6.c), so only for the wildcard is the
// option what the program chose; before the bind it still reads otherwise.
func (k Key) At(a Address) Key {
	k.Address = a
	if a.IsPath() {
		k.Address.Name = "" // see Place
		k.NetNS = 0         // files are of no network: clients of every namespace find them (unix_find_bsd in net/unix/af_unix.c)
	}
	if a.Family == unix.AF_INET6 && !a.AddrPort.Addr().IsUnspecified() {
		k.V6Only = !a.AddrPort.Addr().Is4In6()
	}
	return k.scoped()
}

// scoped makes one of the two ways in which a link-local address is of an interface: bind takes the scope id for the bound device
// (sk_bound_dev_if), which it reads as afterwards, and the other way round.
func (k Key) scoped() Key {
	ip := k.Address.AddrPort.Addr()
	if k.Address.Family != unix.AF_INET6 || k.Device == 0 || !NeedsScope(ip.WithZone("")) {
		return k
	}
	device := strconv.Itoa(k.Device)
	if ip.Zone() == "" {
		k.Address.AddrPort = netip.AddrPortFrom(ip.WithZone(device), k.Address.Port())
	} else if ip.Zone() != device {
		return k
	}
	k.Device = 0
	return k
}

// ErrNotPreservable: the socket is of a kind that this package leaves alone.
var ErrNotPreservable = errors.New("no socket of a kind that is preserved, or one that clients can't reach")

// IsDatagram tells whether the socket has a queue of datagrams and none of connections.
func (k Key) IsDatagram() bool { return k.Type == unix.SOCK_DGRAM }

// IsTCP tells whether it is of either protocol that TCP clients reach.
func (k Key) IsTCP() bool {
	return k.Type == unix.SOCK_STREAM && (k.Protocol == unix.IPPROTO_TCP || k.Protocol == unix.IPPROTO_MPTCP)
}

// Describe fills in all of a key but its address, from a descriptor of the
// supervisor's own that is a duplicate of the process pid's.
func Describe(fd, pid int) (Key, error) {
	var k Key
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return k, os.NewSyscallError("getsockopt", err)
	}
	switch domain {
	case unix.AF_INET, unix.AF_INET6, unix.AF_UNIX, unix.AF_VSOCK:
	default:
		return k, ErrNotPreservable
	}
	k.Address.Family = uint16(domain)
	for _, o := range []struct {
		name int
		to   *int
	}{
		{unix.SO_TYPE, &k.Type},
		{unix.SO_PROTOCOL, &k.Protocol},
		{unix.SO_BINDTOIFINDEX, &k.Device}, // Linux 5.0
	} {
		if *o.to, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.name); err != nil {
			return k, os.NewSyscallError("getsockopt", err)
		}
	}
	if domain == unix.AF_UNIX {
		return describeUnix(k, fd, pid)
	}
	switch {
	case k.IsTCP():
	case k.Type == unix.SOCK_DGRAM && k.Protocol == unix.IPPROTO_UDP:
	case domain == unix.AF_VSOCK && k.Type != unix.SOCK_DGRAM: // those have no connections, and few transports have them
	default:
		return k, ErrNotPreservable
	}
	if domain == unix.AF_INET6 {
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return k, os.NewSyscallError("getsockopt", err)
		}
		k.V6Only = only != 0
	}
	k.NetNS, err = NetworkNamespace(fd, pid)
	return k, err
}

// describeUnix ends what describe has begun.
func describeUnix(k Key, fd, pid int) (Key, error) {
	k.Protocol = 0 // or PF_UNIX: both are the same
	var err error
	k.NetNS, err = NetworkNamespace(fd, pid)
	return k, err
}

// NetworkNamespace identifies the namespace that a socket lives in, which need
// not be its process's any more. The cookie (SO_NETNS_COOKIE, Linux 5.14) is
// exact; before that the process's own namespace has to do.
func NetworkNamespace(fd, pid int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err == nil {
		return cookie, nil
	}
	if err != unix.ENOPROTOOPT {
		return 0, os.NewSyscallError("getsockopt", err)
	}
	return proc.NetNS(pid)
}
