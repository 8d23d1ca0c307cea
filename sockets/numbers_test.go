package sockets

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
)

// TestFaultD10PassOrder: sockets that a generation was started with and those that it listens on are in one order: no
// two have the same number.
func TestFaultD10PassOrder(t *testing.T) {
	t.Parallel()
	p := &Preserved{}
	var want []uint64
	for inode := uint64(900); inode < 903; inode++ {
		p.sockets = append(p.sockets, &Socket{Inode: inode, standing: true, fd: -1})
		want = append(want, inode)
	}
	tracker := newTestTracker(1, "", p, nil, NewKnocks(), nil)
	tracker.pass()
	for inode := uint64(10); inode > 0; inode-- {
		tracker.mu.Lock()
		tracker.number(inode)
		tracker.mu.Unlock()
		want = append(want, inode)
	}
	if got := tracker.listeningInodes(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	numbers := make(map[int]uint64)
	for inode, n := range tracker.listening {
		if other, ok := numbers[n]; ok {
			t.Errorf("%d and %d both have number %d", inode, other, n)
		}
		numbers[n] = inode
	}
}

// TestFaultD10SurplusLock: what a drain notes of a surplus socket may be looked at by others meanwhile. It is for the
// race detector.
func TestFaultD10SurplusLock(t *testing.T) {
	t.Parallel()
	early := map[netip.AddrPort]struct{}{netip.MustParseAddrPort("127.0.0.1:1"): {}}
	s := &Socket{surplus: true, fd: 1 << 20, early: early}
	p := &Preserved{sockets: []*Socket{s}}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range 100 {
				p.surplusLeft()
				p.connecting(s, map[netip.AddrPort]struct{}{})
				p.seen(s, false)
			}
		})
	}
	all.Wait()
	if n := p.seen(s, true); n != 1 {
		t.Errorf("empty %d times", n)
	}
	if n := p.seen(s, true); n != 2 {
		t.Errorf("empty %d times", n)
	}
	if n := p.connecting(s, nil); n != 0 {
		t.Errorf("%d clients still connect", n)
	}
	p.nowServed(s)
	if left := p.surplusLeft(); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}
