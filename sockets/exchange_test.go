package sockets

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
)

// A process that has many sockets gives them up in one exchange: every descriptor and every entry keeps what the program gave it, and stands
// for a placeholder; the entries of a number that is closed by now are gone.
func TestGateManySockets(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const many, stale = 2 * manyEntries, 900
		knocks := NewKnocks()
		r := &restarted{old: launch(t, 1, level, nil, knocks, 0)}
		set := r.old.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
		var before, after []service
		for i := range many {
			s := r.old.listenOn(t, loopback, unix.SOCK_NONBLOCK|i%2*unix.SOCK_CLOEXEC)
			r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(unix.EPOLLIN|uint32(i%3/2)*unix.EPOLLEXCLUSIVE, uint64(1000+i)))
			before = append(before, s)
		}
		r.old.Must(t, 0, unix.SYS_DUP3, before[0].fd, stale, 0)
		r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, stale, abi.Native.EpollEvent(unix.EPOLLIN, 1))
		r.old.Must(t, 0, unix.SYS_CLOSE, stale)
		r.preserved = collect(t, r.old)
		r.new = launch(t, 2, level, r.preserved, knocks, 0)
		for _, s := range before {
			after = append(after, r.new.listenOn(t, s.addr, unix.SOCK_NONBLOCK))
		}
		r.gate(t)
		for i, s := range before {
			dial(t, s.addr)
			r.refuses(t, s.fd)
			if now := r.old.inode(t, s.fd); level == notify.LevelListeners && now == r.new.inode(t, after[i].fd) {
				t.Errorf("descriptor %d is the listening socket yet", s.fd)
			}
			info, err := proc.ReadFDInfo(r.old.PID, s.fd)
			if err != nil || info.CloseOnExec() != (i%2 == 1) || info.Flags&unix.O_NONBLOCK == 0 {
				t.Errorf("descriptor %d has flags %o, %v", s.fd, info.Flags, err)
			}
		}
		if got := r.old.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, 0, 0, 8); got.Value != 0 || got.Errno != 0 {
			t.Errorf("a gated process is told of a client: %+v", got)
		}
		if level == notify.LevelListeners {
			info, err := proc.ReadFDInfo(r.old.PID, set)
			if err != nil || len(info.Targets) != many {
				t.Fatalf("the set has %d entries, %v", len(info.Targets), err)
			}
			told := make(map[string]bool)
			for _, target := range info.Targets {
				if target.Inode != r.old.inode(t, target.FD) {
					t.Errorf("the entry of descriptor %d is of another socket", target.FD)
				}
				told[strconv.FormatUint(target.Data, 10)] = target.Events&unix.EPOLLIN != 0
			}
			for i := range many {
				if !told[strconv.Itoa(1000+i)] {
					t.Errorf("the entry of %d is not as the program made it", i)
				}
			}
		}
		for _, s := range before {
			r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, s.fd, 0)
		}
		for _, s := range after {
			r.new.Must(t, 0, unix.SYS_ACCEPT4, s.fd, 0, 0, 0)
		}
	})
}
