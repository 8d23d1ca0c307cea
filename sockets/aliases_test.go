package sockets

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
)

// Duplicates that the service has made of its socket before it binds it, and entries in epoll sets, are the preserved socket's afterwards.
func TestKin(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		knocks := NewKnocks()
		old := launch(t, 1, level, nil, knocks, 0)
		s := old.listenOn(t, loopback, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		p := collect(t, old)
		next := launch(t, 2, level, p, knocks, 0)

		const data = 0x1122334455667788
		events := []uint32{unix.EPOLLIN | unix.EPOLLET, unix.EPOLLIN | unix.EPOLLEXCLUSIVE}
		fd := next.Must(t, 0, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		second := next.Must(t, 0, unix.SYS_DUP, fd)
		var sets []int
		for i, target := range []int{fd, second} {
			set := next.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			next.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, target, abi.Native.EpollEvent(events[i], data+uint64(i)))
			sets = append(sets, set)
		}
		raw := rawAddress(s.addr)
		next.Must(t, 0, unix.SYS_BIND, fd, raw, len(raw))

		want := old.inode(t, s.fd)
		for _, n := range []int{fd, second} {
			info, err := proc.ReadFDInfo(next.PID, n)
			if err != nil || next.inode(t, n) != want {
				t.Fatalf("descriptor %d is another socket, %v", n, err)
			}
			if info.CloseOnExec() != (n == fd) || info.Flags&unix.O_NONBLOCK == 0 {
				t.Errorf("descriptor %d: flags %o", n, info.Flags)
			}
		}
		for i, set := range sets {
			info, err := proc.ReadFDInfo(next.PID, set)
			if err != nil || len(info.Targets) != 1 {
				t.Fatalf("set %d: %+v, %v", i, info, err)
			}
			e := info.Targets[0]
			if e.Inode != want || e.FD != []int{fd, second}[i] || e.Data != data+uint64(i) || e.Events&^(unix.EPOLLERR|unix.EPOLLHUP) != events[i] {
				t.Errorf("set %d: %+v", i, e)
			}
		}
		// The program finds its entry where it left it, and a client wakes it.
		next.Must(t, 0, unix.SYS_LISTEN, second, 16)
		next.Must(t, 0, unix.SYS_EPOLL_CTL, sets[0], unix.EPOLL_CTL_MOD, fd, abi.Native.EpollEvent(unix.EPOLLIN, 7))
		dial(t, s.addr)
		buf := make([]byte, 12)
		r := next.Call(t, 0, unix.SYS_EPOLL_PWAIT, sets[0], buf, 1, int(patience.Milliseconds()), 0, 8)
		if r.Value != 1 || binary.NativeEndian.Uint64(r.Memory[1][4:]) != 7 {
			t.Errorf("%+v", r)
		}
	})
}
