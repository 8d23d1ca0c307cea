package sockets

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// What can't be seen of the caller's socket is taken from the preserved one that it would claim, and from no other.
func TestCompleted(t *testing.T) {
	t.Parallel()
	dual, only, device, other := tcpKey("[::]:80"), tcpKey("[::]:81"), tcpKey("127.0.0.1:80"), tcpKey("127.0.0.1:80")
	only.V6Only = true
	device.Device = 3
	other.Protocol = unix.IPPROTO_MPTCP
	elsewhere := tcpKey("127.0.0.1:80")
	elsewhere.NetNS = 2
	p := preserve(t, dual, only, device)
	bare := func(k sockaddr.Key) sockaddr.Key { k.V6Only, k.Device = false, 0; return k }
	for name, c := range map[string]struct{ seen, want sockaddr.Key }{
		"dual stack":        {bare(dual), dual},
		"IPv6 only":         {bare(only), only},
		"device":            {bare(device), device},
		"another protocol":  {other, other},
		"another namespace": {elsewhere, elsewhere},
		"another address":   {tcpKey("127.0.0.1:82"), tcpKey("127.0.0.1:82")},
	} {
		if got := p.completed(c.seen); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	// Of several that look alike, those that are left come first.
	second := device
	second.Device = 4
	p = preserve(t, device, second)
	p.sockets[0].claimed = true
	if got := p.completed(bare(device)); got != second {
		t.Errorf("%v, want %v", got, second)
	}
	p.sockets[1].claimed = true
	if got := p.completed(bare(device)); got == bare(device) {
		t.Error("nothing where all are claimed: a service may bind twice")
	}
	p.Close()
	if got := p.completed(bare(device)); got != bare(device) {
		t.Errorf("%v of sockets that are closed", got)
	}
}
