package sockets

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// kinds are the protocols by the names that the kernel gives them (struct proto in net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c,
// net/mptcp/protocol.c, net/ipv4/udp.c, net/ipv6/udp.c, net/unix/af_unix.c, net/vmw_vsock/af_vsock.c). Unix datagram and seqpacket sockets have
// one name, and all vsock sockets: their type stays 0, see completed.
var kinds = map[string]struct {
	family   uint16
	kind     int
	protocol int
}{
	"TCP":         {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"TCPv6":       {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"MPTCP":       {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	"MPTCPv6":     {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	"UDP":         {unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"UDPv6":       {unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"UNIX-STREAM": {unix.AF_UNIX, unix.SOCK_STREAM, 0},
	"UNIX":        {unix.AF_UNIX, 0, 0},
	"AF_VSOCK":    {unix.AF_VSOCK, 0, 0},
}

// partialKey describes the socket that the caller is about to bind where it can't be copied: pidfd_getfd(2) is denied by the
// default profiles of Docker and containerd, and the caller, which waits for the answer, can't be made to
// send it. What /proc does not tell is IPV6_V6ONLY and the bound device; what is missing is taken from the preserved
// sockets, see Preserved.completed.
func (t *Tracker) partialKey(r *notify.Request) (key sockaddr.Key, nonblock bool, err error) {
	protocol, err := proc.SocketProtocol(r.TID, r.FD())
	if err != nil {
		return sockaddr.Key{}, false, err
	}
	info, err := proc.ReadFDInfo(r.TID, r.FD())
	if err != nil {
		return sockaddr.Key{}, false, err
	}
	// The socket's own namespace can't be told from its process's; a program that
	// changes namespaces between socket and bind has the privilege to have its sockets copied.
	theirs, err := proc.NetNS(r.TID)
	if err != nil {
		return sockaddr.Key{}, false, err
	}
	ours, err := proc.NetNS(os.Getpid())
	if err != nil {
		return sockaddr.Key{}, false, err
	}
	if !r.Valid() {
		return sockaddr.Key{}, false, notify.ErrTargetGone
	}
	kind, ok := kinds[protocol]
	if !ok || theirs != ours && kind.family != unix.AF_UNIX {
		return sockaddr.Key{}, false, sockaddr.ErrNotPreservable
	}
	key = sockaddr.Key{Type: kind.kind, Protocol: kind.protocol, Address: sockaddr.Address{Family: kind.family}}
	if theirs == ours { // else only a path is known there, which is of no network
		key.NetNS, err = ownNamespace()
	}
	return key, info.Flags&unix.O_NONBLOCK != 0, err
}

// completed fills in what a partial key leaves open, from the socket that would be claimed: a new version that
// changes nothing but these options of an address gets the old ones.
func (p *Preserved) completed(k sockaddr.Key) sockaddr.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := k
	for _, s := range p.sockets {
		if s.fd < 0 || !k.MatchesPartly(s.Key) {
			continue
		}
		if !s.claimed {
			return s.Key
		}
		found = s.Key
	}
	return found
}
