package sockets

import (
	"maps"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/leak"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
)

// Not parallel: it compares the descriptors of the test's own process.
func TestSilence(t *testing.T) {
	g := launch(t, 1, notify.LevelConnections, nil, NewKnocks(), 0)
	a, b := g.listenOn(t, loopback, unix.SOCK_NONBLOCK), g.listenOn(t, loopback, unix.SOCK_NONBLOCK)
	p := collect(t, g)
	sources := make(map[uint64]int)
	inodes := make(map[uint64]struct{})
	for _, s := range p.sockets {
		sources[s.Inode], inodes[s.Inode] = s.fd, struct{}{}
	}
	if len(sources) != 2 {
		t.Fatalf("collected: %v", p.sockets)
	}
	pipe, other := g.pair(t)
	sets := []int{g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0), g.Must(t, 0, unix.SYS_EPOLL_CREATE1, unix.EPOLL_CLOEXEC)}
	// Numbers of the service's that mean something else in the supervisor: low ones, those of its own copies, and one far above.
	used := make(map[int]bool)
	list, err := proc.Descriptors(g.PID)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		used[d.Number] = true
	}
	numbers := []int{3, 4, 5, 6, 7, 8, 9, 10, 700}
	for _, fd := range sources {
		numbers = append(numbers, fd, fd+1)
	}
	count := 0
	add := func(set, fd int, events uint32) {
		g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, fd, abi.Native.EpollEvent(events, uint64(fd)))
	}
	for i, number := range numbers {
		if used[number] {
			continue
		}
		used[number] = true
		from := []int{a.fd, b.fd}[i%2]
		g.Must(t, 0, unix.SYS_DUP3, from, number, 0)
		for _, set := range sets {
			add(set, number, unix.EPOLLIN|uint32(i%3/2)*unix.EPOLLEXCLUSIVE)
			count++
		}
		if i%3 == 0 {
			g.Must(t, 0, unix.SYS_CLOSE, number) // the entry stays, because the socket is open at another number
		}
	}
	for _, set := range sets {
		add(set, a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
		add(set, b.fd, unix.EPOLLIN|unix.EPOLLET)
		add(set, pipe, unix.EPOLLIN)
		count += 2
	}
	entries := epollset.Entries([]int{g.PID, 1 << 22}, inodes)
	if len(entries) != count {
		t.Fatalf("%d entries are found, want %d: %+v", len(entries), count, entries)
	}
	before := leak.Open()
	// One of a set that is closed, and one of a process that is gone: nothing left to do there.
	entries = append(entries, epollset.Entry{PID: g.PID, Set: 1 << 20, Target: 3, Inode: p.sockets[0].Inode},
		epollset.Entry{PID: 1 << 22, Set: 3, Target: 3, Inode: p.sockets[0].Inode})
	for range 2 { // also those that are silent already
		if err := (epollset.Edit{Entries: entries, Sockets: sources, CopyOf: fdpass.Copy}).Apply(); err != nil {
			t.Fatal(err)
		}
	}
	if after := leak.Open(); !maps.Equal(before, after) {
		t.Errorf("descriptors before %v, after %v", before, after)
	}
	left := epollset.Entries([]int{g.PID}, inodes)
	if len(left) != count {
		t.Errorf("%d entries are left, want %d: the program may yet ask for them", len(left), count)
	}
	for _, r := range left {
		if !r.Silent() {
			t.Errorf("not silent: %+v", r)
		}
	}
	ready := func(set int) puppets.Result {
		return g.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 16*32), 32, 0, 0, 8)
	}
	dial(t, a.addr)
	dial(t, b.addr)
	for _, set := range sets {
		if r := ready(set); r.Value != 0 || r.Errno != 0 {
			t.Errorf("%d entries of set %d are ready, %v", r.Value, set, r.Errno)
		}
	}
	g.Must(t, 0, unix.SYS_WRITE, other, []byte{1}, 1)
	for _, set := range sets {
		if r := ready(set); r.Value != 1 {
			t.Errorf("%d entries of set %d are ready, %v; want that of the pair", r.Value, set, r.Errno)
		}
	}
	// The sockets themselves are as they were.
	for _, s := range []service{a, b} {
		g.Must(t, 0, unix.SYS_ACCEPT4, s.fd, 0, 0, 0)
	}
}

func TestRegistrationsSaysWhat(t *testing.T) {
	t.Parallel()
	g := launch(t, 1, notify.LevelConnections, nil, NewKnocks(), 0)
	s := g.listenOn(t, loopback, unix.SOCK_NONBLOCK)
	set := g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
	const events, data = unix.EPOLLIN | unix.EPOLLET, 0xfedcba9876543210
	g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(events, data))
	inode := g.inode(t, s.fd)
	found := epollset.Entries([]int{g.PID}, map[uint64]struct{}{inode: {}})
	want := epollset.Entry{PID: g.PID, Set: set, Target: s.fd, Inode: inode, Events: events, Data: data}
	if len(found) == 1 {
		found[0].Events &= events // the kernel adds EPOLLERR and EPOLLHUP
	}
	if len(found) != 1 || found[0] != want {
		t.Errorf("%+v, want %+v", found, want)
	}
	if found := epollset.Entries([]int{g.PID}, map[uint64]struct{}{inode + 1: {}}); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}
