package sockets

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

// A generation that has waited on a socket of its own gets the preserved one, with the clients that wait there.
func TestExchangeFor(t *testing.T) {
	for _, way := range []string{"accept", "epoll", "poll"} {
		t.Run(way, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level notify.Level) { testExchangeFor(t, level, way) })
		})
	}
}

func testExchangeFor(t *testing.T, level notify.Level, way string) {
	const copied = 900
	knocks := NewKnocks()
	old := launch(t, 1, level, nil, knocks, 0)
	before := old.listenOn(t, loopback, 0)
	preserved := collect(t, old)
	// The new one has another address, so that the test needs no steering.
	next := launch(t, 2, level, nil, knocks, 0)
	own := next.listenOn(t, loopback, 0)
	next.Must(t, 0, unix.SYS_DUP3, own.fd, copied, unix.O_CLOEXEC)
	set := next.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
	var waiting *puppets.Pending
	tid := next.Must(t, 1, unix.SYS_GETTID)
	switch way {
	case "accept":
		waiting = blocked(t, next.puppet, 1, own.fd)
	case "epoll":
		next.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, own.fd, abi.Native.EpollEvent(unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 3))
		waiting = next.Begin(t, 1, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, -1, 0, 8)
		waitsIn(t, next.puppet, tid, unix.SYS_EPOLL_PWAIT)
	case "poll":
		waiting = next.Begin(t, 1, unix.SYS_PPOLL, []byte{byte(own.fd), 0, 0, 0, unix.POLLIN, 0, 0, 0}, 1, 0, 0, 8)
		waitsIn(t, next.puppet, tid, unix.SYS_PPOLL)
	}
	if err := unix.Kill(-old.PID, unix.SIGKILL); err != nil { // exec mode: nobody serves
		t.Fatal(err)
	}
	client := dial(t, before.addr)
	began := time.Now()
	err := next.tracker.exchangeFor(t.Context(), map[uint64]*Socket{next.inode(t, own.fd): preserved.Sockets()[0]})
	t.Logf("exchanged after %v", time.Since(began))
	if err != nil {
		t.Fatal(err)
	}
	got := waiting.Wait(t)
	if way != "accept" {
		if got.Value != 1 {
			t.Fatalf("told of %+v", got)
		}
		got = next.Call(t, 1, unix.SYS_ACCEPT4, own.fd, 0, 0, 0)
	}
	if got.Errno != 0 {
		t.Fatal(got.Errno)
	}
	answers(t, next.puppet, 1, got.Value, client)
	for _, fd := range []int{own.fd, copied} {
		if now := next.inode(t, fd); now != preserved.Sockets()[0].Inode {
			t.Errorf("descriptor %d is socket %d yet", fd, now)
		}
	}
	if way == "epoll" {
		next.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, own.fd, 0)
	}
	again := collect(t, next)
	if list := again.Sockets(); len(list) != 1 || list[0].Inode != preserved.Sockets()[0].Inode {
		t.Errorf("the next restart finds %v", list)
	}
}
