package sockets

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
)

// Unix sockets of each kind of name: who waits in accept, and who is told by epoll.
func TestUngateUnix(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		for what, name := range puppets.UnixNames(t) {
			knocks := NewKnocks()
			old := launch(t, 1, level, nil, knocks, 0)
			waitedOn, toldOf := old.listenUnix(t, unix.SOCK_STREAM, name), old.listenUnix(t, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, name+"2")
			tid := old.Must(t, 1, unix.SYS_GETTID)
			waiting := blocked(t, old.puppet, 1, waitedOn)
			set := old.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, toldOf, abi.Native.EpollEvent(unix.EPOLLIN|unix.EPOLLET, 9))
			r := &restarted{old: old, preserved: collect(t, old)}
			r.new = launch(t, 2, level, r.preserved, knocks, 0)
			r.new.listenUnix(t, unix.SOCK_STREAM, name)
			r.new.listenUnix(t, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, name+"2")
			r.gateAndKeep(t)
			waiting = blockedAgain(t, old.puppet, 1, tid, waitedOn, waiting)
			if got := old.Call(t, 0, unix.SYS_ACCEPT4, toldOf, 0, 0, 0); got.Errno != unix.EAGAIN {
				t.Errorf("%s: the gated generation accepts: %+v", what, got)
			}
			first, second := puppets.DialUnix(t, "unix", name), puppets.DialUnix(t, "unix", name+"2")
			r.died(t)
			r.ungate(t)
			if got := waiting.Wait(t); got.Errno != 0 {
				t.Errorf("%s: accept: %v", what, got.Errno)
			} else {
				answers(t, old.puppet, 1, got.Value, first)
			}
			for accepted := false; !accepted; {
				if got := old.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, 5000, 0, 8); got.Value != 1 {
					t.Fatalf("%s: nobody is told: %+v", what, got)
				}
				got := old.Call(t, 0, unix.SYS_ACCEPT4, toldOf, 0, 0, 0)
				if accepted = got.Errno == 0; accepted {
					answers(t, old.puppet, 0, got.Value, second)
				} else if got.Errno != unix.EAGAIN {
					t.Fatalf("%s: %v", what, got.Errno)
				}
			}
			if name[0] != 0 {
				old.unlink(t, name)
				old.unlink(t, name+"2")
			}
		}
	})
}

// Datagrams that came while nobody served are received, by threads that wait in recvfrom, poll or epoll.
func TestUngateDatagrams(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		for _, way := range []string{"recvfrom", "poll", "epoll", "edge"} {
			var told *puppets.Pending
			var set int
			flags := unix.SOCK_NONBLOCK
			if way == "recvfrom" {
				flags = 0
			}
			r := restartDatagrams(t, level, flags, func(g *generation, s service) {
				tid := g.Must(t, 1, unix.SYS_GETTID)
				call := int64(unix.SYS_EPOLL_PWAIT)
				switch way {
				case "recvfrom":
					call = unix.SYS_RECVFROM
					told = g.Begin(t, 1, unix.SYS_RECVFROM, s.fd, make([]byte, 16), 16, 0, 0, 0)
				case "poll":
					call = unix.SYS_PPOLL
					told = g.Begin(t, 1, unix.SYS_PPOLL, []byte{byte(s.fd), byte(s.fd >> 8), 0, 0, unix.POLLIN, 0, 0, 0}, 1, 0, 0, 8)
				default:
					events := uint32(unix.EPOLLIN)
					if way == "edge" {
						events |= unix.EPOLLET | unix.EPOLLOUT
					}
					set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
					g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(events, 5))
					if way == "edge" { // that it can send
						g.Must(t, 1, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, -1, 0, 8)
					}
					told = g.Begin(t, 1, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, -1, 0, 8)
				}
				waitsIn(t, g.puppet, tid, call)
			})
			r.gateAndKeep(t)
			send(t, r.addr, "for 2")
			if got := r.new.Call(t, 0, unix.SYS_RECVFROM, r.at.fd, make([]byte, 16), 16, 0, 0, 0); got.Value != 5 {
				t.Errorf("%s: the new generation received %d bytes, %v", way, got.Value, got.Errno)
			}
			r.died(t)
			send(t, r.addr, "for the old one")
			if told.Returned() {
				t.Errorf("%s: a gated generation is told", way)
			}
			r.ungate(t)
			got := told.Wait(t)
			if got.Errno != 0 || got.Value < 1 {
				t.Fatalf("%s: %+v", way, got)
			}
			if way != "recvfrom" {
				got = r.old.Call(t, 1, unix.SYS_RECVFROM, r.fd, make([]byte, 16), 16, 0, 0, 0)
			}
			if got.Errno != 0 || string(got.Memory[1][:got.Value]) != "for the old one" {
				t.Errorf("%s: received %d, %v", way, got.Value, got.Errno)
			}
			r.restored(t, r.fd)
		}
	})
}

// An old generation that was never gated, or is over, is no error.
func TestUngateNothing(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restart(t, level, 0, 0, nil)
		r.ungate(t)
		serves(t, r.old.puppet, r.service)
		r.gateAndKeep(t)
		if err := unix.Kill(-r.old.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.ungate(t)
		eventually(t, "the old generation is gone", func() bool { return len(group(r.old.PID)) == 0 })
		r.ungate(t)
		serves(t, r.new.puppet, r.at)
	})
}
