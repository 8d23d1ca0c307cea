package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"strconv"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The rest of struct inet_diag_req_v2, see diag_inet.go.
const (
	requestV2RemotePortAt = requestV2PortAt + 2
	requestV2LocalAt      = requestV2PortAt + 4
	requestV2RemoteAt     = requestV2LocalAt + 16
	requestV2DeviceAt     = requestV2RemoteAt + 16
)

// tcpTimeWait is include/net/tcp_states.h's. What is in it stands in no new connection's way that is made from a
// port that was bound (tcp_twsk_unique in net/ipv4/tcp_ipv4.c).
const tcpTimeWait = 6

// Connected tells whether there is a TCP connection between two addresses of one family, seen from one end. Only
// that one is looked up (inet_diag_find_one_icsk in net/ipv4/inet_diag.c): it costs the same whatever else there is.
func (d *Conn) Connected(local, remote netip.AddrPort) (bool, error) {
	there := false
	request := exactRequest(local, remote)
	err := d.bySockFamily(request, 0, func(answer iter.Seq2[netlink.Message, error], sequence uint32) error {
		return visitSockets(answer, sequence, func(data []byte) error {
			c, err := parseConnection(data)
			// Without a connection the answer is the socket that listens there.
			there = err == nil && c.State != TCPListen && c.State != tcpTimeWait
			return err
		})
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot look for a connection: %w", err)
	}
	return there, nil
}

func exactRequest(local, remote netip.AddrPort) []byte {
	family := uint8(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	b := inetRequest(family, unix.IPPROTO_TCP, ^uint32(0), local.Port())
	binary.BigEndian.PutUint16(b[requestV2RemotePortAt:], remote.Port())
	copy(b[requestV2LocalAt:], local.Addr().AsSlice())
	copy(b[requestV2RemoteAt:], remote.Addr().AsSlice())
	if device, err := strconv.ParseUint(local.Addr().Zone(), 10, 32); err == nil {
		binary.NativeEndian.PutUint32(b[requestV2DeviceAt:], uint32(device))
	}
	return b
}
