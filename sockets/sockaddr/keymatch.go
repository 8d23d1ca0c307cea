package sockaddr

import (
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Overlaps tells whether two sockets of these keys can't both be bound, unless they share a port by choice (SO_REUSEPORT): it is
// what ipv6_rcv_saddr_equal and inet_csk_bind_conflict of net/ipv4/inet_connection_sock.c decide for a listening socket.
func (k Key) Overlaps(other Key) bool {
	port := k.Address.Port()
	switch {
	case port == 0 || port != other.Address.Port() || k.Type != other.Type || k.NetNS != other.NetNS:
		return false
	case k.Device != 0 && other.Device != 0 && k.Device != other.Device:
		return false
	}
	a, b := k.Address.AddrPort.Addr(), other.Address.AddrPort.Addr()
	if k.bothFamilies() || other.bothFamilies() {
		return true
	}
	// Of those that are left each is for clients of one family.
	a, b = a.Unmap(), b.Unmap()
	if a.Is4() != b.Is4() {
		return false
	}
	return a.WithZone("") == b.WithZone("") && sameZone(a.Zone(), b.Zone()) || a.IsUnspecified() || b.IsUnspecified()
}

// bothFamilies tells whether IPv4 clients come to an IPv6 wildcard, too.
func (k Key) bothFamilies() bool {
	return k.Address.Family == unix.AF_INET6 && k.Address.AddrPort.Addr().IsUnspecified() && !k.V6Only
}

// Detailed is a key with what two that overlap may differ in.
func (k Key) Detailed() string {
	if k.Protocol == unix.IPPROTO_MPTCP {
		return "mp" + k.String()
	}
	return k.String()
}

// MatchesPartly tells whether k can be what a partial key of a socket of the other key has left.
func (k Key) MatchesPartly(other Key) bool {
	other.Device = k.Device
	if k.Type == 0 {
		other.Type = 0
	}
	if k.Address.Family == unix.AF_INET6 && k.Address.AddrPort.Addr().IsUnspecified() {
		other.V6Only = k.V6Only
	}
	return other == k
}

// ReachedBy tells whether a connection to a local address reaches a socket of this key. Zones are not compared: what is refused is the starting
// generation's own address, whatever the interface.
func (k Key) ReachedBy(to netip.AddrPort) bool {
	own, ip := k.Address.AddrPort.Addr().WithZone("").Unmap(), to.Addr().WithZone("").Unmap()
	if k.Address.Port() != to.Port() {
		return false
	}
	if ip.IsUnspecified() { // connect(2) takes it for the loopback address
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if ip.Is6() {
			loopback = netip.IPv6Loopback()
		}
		ip = loopback
	}
	if !own.IsUnspecified() {
		return own == ip
	}
	if own.Is4() && !ip.Is4() || own.Is6() && ip.Is4() && k.V6Only {
		return false
	}
	return ip.IsLoopback() || IsLocal(ip)
}

// IsLocal tells whether an address is one of this machine's.
func IsLocal(ip netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(list, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap().WithZone("") == ip
	})
}

// Shareable tells whether sockets of the key can share their address. What is sent to a group of hosts comes
// to every one that has joined it, in all generations.
func (k Key) Shareable() bool {
	ip := k.Address.AddrPort.Addr()
	inet := k.Address.Family == unix.AF_INET || k.Address.Family == unix.AF_INET6
	return inet && k.Address.Port() != 0 && !ip.Unmap().IsMulticast() && (k.IsTCP() || k.IsDatagram())
}

// Takes tells whether a client that connects to this address comes to a socket of the key, if to none that is
// more particular.
func (k Key) Takes(target netip.AddrPort) bool {
	ip := k.Address.AddrPort.Addr()
	if k.Address.Port() != target.Port() {
		return false
	}
	if ip.IsUnspecified() {
		return k.bothFamilies() || ip.Is4() == target.Addr().Is4()
	}
	return SameHost(ip.Unmap(), target.Addr().Unmap())
}

// SameHost tells whether two addresses are the same but for their zones.
func SameHost(a, b netip.Addr) bool { return a.WithZone("") == b.WithZone("") }

func sameZone(a, b string) bool { return a == b || a == "" || b == "" }
