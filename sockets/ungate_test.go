package sockets

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/puppets"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/sockaddr"
)

// gateAndKeep gates the old generation. The supervisor keeps its duplicates, as it does during probation.
func (r *restarted) gateAndKeep(t *testing.T) {
	t.Helper()
	if err := r.old.tracker.Gate(t.Context(), r.preserved.Claimed()); err != nil {
		t.Fatal(err)
	}
}

// ungate makes the old generation the one that serves again, and checks that nothing is left of the gate.
func (r *restarted) ungate(t *testing.T) {
	t.Helper()
	began := time.Now()
	if err := r.old.tracker.Ungate(t.Context(), r.preserved.Claimed()); err != nil {
		t.Fatal(err)
	}
	t.Logf("back after %v", time.Since(began))
}

// restored checks that descriptors of the old generation are the preserved socket, and the placeholders gone.
func (r *restarted) restored(t *testing.T, fds ...int) {
	t.Helper()
	want := r.preserved.Sockets()[0].Inode
	for _, fd := range fds {
		if now := r.old.inode(t, fd); now != want {
			t.Errorf("descriptor %d is socket %d, want %d", fd, now, want)
		}
	}
	eventually(t, "the placeholders are closed", func() bool {
		r.old.tracker.mu.Lock()
		defer r.old.tracker.mu.Unlock()
		return len(r.old.tracker.returning) == 0 && r.old.tracker.gate == nil
	})
}

// died ends the new generation, as one does that is broken.
func (r *restarted) died(t *testing.T) {
	t.Helper()
	if err := unix.Kill(-r.new.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new generation is gone", func() bool { return len(group(r.new.PID)) == 0 })
}

// answers answers what was accepted, and expects the client to be answered.
func answers(t *testing.T, p *puppet, thread, accepted int, client net.Conn) {
	t.Helper()
	p.Must(t, thread, unix.SYS_WRITE, accepted, []byte("hello"), 5)
	buf := make([]byte, 8)
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("the client got %q, %v", buf[:n], err)
	}
	p.Must(t, thread, unix.SYS_CLOSE, accepted)
}

// blockedAgain waits until a thread waits in accept on a placeholder, and takes the phantoms that it is given before: it may
// get none, and another one two.
func blockedAgain(t *testing.T, p *puppet, thread, tid, fd int, call *puppets.Pending) *puppets.Pending {
	t.Helper()
	seen := 0
	eventually(t, "the thread waits in accept", func() bool {
		if call.Returned() {
			readsEnd(t, p, thread, call.Wait(t).Value)
			call, seen = p.Begin(t, thread, unix.SYS_ACCEPT4, fd, 0, 0, 0), 0
		}
		now, err := proc.ReadSyscall(p.PID, tid)
		if seen++; err != nil || now.Running || now.Number != unix.SYS_ACCEPT4 {
			seen = 0
		}
		return seen > 5
	})
	return call
}

// Threads that wait in accept since before the gate wait on the preserved socket again, and get who waits there.
func TestUngateBlockedAccept(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const threads = 3
		var waiting []*puppets.Pending
		var tids []int
		r := restart(t, level, 0, 0, func(g *generation, s service) {
			for i := range threads {
				tids = append(tids, g.Must(t, i+1, unix.SYS_GETTID))
				waiting = append(waiting, blocked(t, g.puppet, i+1, s.fd))
			}
		})
		r.gateAndKeep(t)
		for i, call := range waiting { // the phantoms are gone, and everybody waits on a placeholder
			waiting[i] = blockedAgain(t, r.old.puppet, i+1, tids[i], r.fd, call)
		}
		r.died(t)
		var clients []net.Conn
		for range threads {
			clients = append(clients, dial(t, r.addr))
		}
		r.ungate(t)
		peers := make(map[string]net.Conn)
		for _, c := range clients {
			peers[c.LocalAddr().String()] = c
		}
		for i, call := range waiting {
			got := call.Wait(t)
			if got.Errno != 0 {
				t.Fatalf("accept: %v", got.Errno)
			}
			raw := r.old.Call(t, i+1, unix.SYS_GETPEERNAME, got.Value, make([]byte, sockaddr.SizeofStorage), []byte{sockaddr.SizeofStorage, 0, 0, 0})
			from, err := sockaddr.Parse(raw.Memory[1][:16])
			if err != nil || peers[from.AddrPort.String()] == nil {
				t.Fatalf("accepted %v, %v", from, err)
			}
			answers(t, r.old.puppet, i+1, got.Value, peers[from.AddrPort.String()])
		}
		r.restored(t, r.fd)
	})
}

// A client that comes while nobody serves, and one that comes later, wake who waits in poll, select or epoll.
func TestUngateWaiting(t *testing.T) {
	type way struct {
		flags  int
		events uint32 // of an entry in an epoll set; 0 for poll
		choose bool   // select
	}
	for name, w := range map[string]way{
		"poll":            {flags: unix.SOCK_NONBLOCK},
		"poll blocking":   {},
		"select":          {flags: unix.SOCK_NONBLOCK, choose: true},
		"select blocking": {choose: true},
		"level":           {flags: unix.SOCK_NONBLOCK, events: unix.EPOLLIN},
		"level blocking":  {events: unix.EPOLLIN},
		"edge":            {flags: unix.SOCK_NONBLOCK, events: unix.EPOLLIN | unix.EPOLLET},
		"exclusive":       {flags: unix.SOCK_NONBLOCK, events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE},
		"oneshot":         {flags: unix.SOCK_NONBLOCK, events: unix.EPOLLIN | unix.EPOLLONESHOT},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level notify.Level) {
				for _, swapped := range []bool{false, true} {
					testUngateWaiting(t, level, w.flags, w.events, w.choose, swapped)
				}
			})
		})
	}
}

func testUngateWaiting(t *testing.T, level notify.Level, flags int, events uint32, choose, swapped bool) {
	const word = 0x1234567887654321
	var set, tid int
	var told *puppets.Pending
	begin := func(p *puppet, fd int, waits bool) {
		t.Helper()
		call := int64(unix.SYS_EPOLL_PWAIT)
		switch {
		case choose:
			bits := make([]byte, 128)
			bits[fd/8] = 1 << (fd % 8)
			call = unix.SYS_PSELECT6
			told = p.Begin(t, 1, unix.SYS_PSELECT6, fd+1, bits, 0, 0, 0, 0)
		case events == 0:
			call = unix.SYS_PPOLL
			told = p.Begin(t, 1, unix.SYS_PPOLL, []byte{byte(fd), byte(fd >> 8), 0, 0, unix.POLLIN, 0, 0, 0}, 1, 0, 0, 8)
		default:
			told = p.Begin(t, 1, unix.SYS_EPOLL_PWAIT, set, make([]byte, 64), 4, -1, 0, 8)
		}
		if waits {
			waitsIn(t, p, tid, call)
		}
	}
	r := restart(t, level, flags, 0, func(g *generation, s service) {
		tid = g.Must(t, 1, unix.SYS_GETTID)
		if events != 0 {
			set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(events, word))
		}
		begin(g.puppet, s.fd, true)
	})
	// accepts is what a program does that was told: it accepts until it finds nobody, where that can be. It returns who
	// came first.
	accepts := func() (first int) {
		t.Helper()
		got := told.Wait(t)
		if got.Errno != 0 || got.Value != 1 {
			t.Fatalf("told of %d, %v", got.Value, got.Errno)
		}
		if events != 0 {
			if want := abi.Native.EpollEvent(unix.EPOLLIN, word); string(got.Memory[1][:len(want)]) != string(want) {
				t.Fatalf("told of %x, want %x", got.Memory[1][:16], want)
			}
		}
		first = -1
		for {
			got := r.old.Call(t, 1, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
			if got.Errno == unix.EAGAIN {
				break
			}
			if got.Errno != 0 {
				t.Fatalf("accept: %v", got.Errno)
			}
			if first < 0 {
				first = got.Value
			}
			if flags == 0 {
				break
			}
		}
		if events&unix.EPOLLONESHOT != 0 {
			r.old.Must(t, 1, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_MOD, r.fd, abi.Native.EpollEvent(events, word))
		}
		return first
	}
	serve := func(client net.Conn) {
		t.Helper()
		for {
			fd := accepts()
			if fd < 0 { // told in vain: by the placeholder
				begin(r.old.puppet, r.fd, false)
				continue
			}
			if got := r.old.Call(t, 1, unix.SYS_RECVFROM, fd, make([]byte, 1), 1, unix.MSG_DONTWAIT, 0, 0); got.Errno == 0 {
				begin(r.old.puppet, r.fd, false) // a phantom
				continue
			}
			answers(t, r.old.puppet, 1, fd, client)
			return
		}
	}
	if swapped && level != notify.LevelListeners {
		// Another thread comes by, and so all of the process's numbers are placeholders.
		r.gateAndKeep(t)
		got := r.old.Call(t, 0, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
		if flags == 0 {
			readsEnd(t, r.old.puppet, 0, got.Value)
		}
	} else {
		r.gateAndKeep(t)
	}
	for range 3 {
		c, _ := serves(t, r.new.puppet, r.at)
		_ = c.Close()
	}
	waitedFor := dial(t, r.addr)
	r.died(t)
	r.ungate(t)
	serve(waitedFor)
	r.restored(t, r.fd)
	begin(r.old.puppet, r.fd, flags != 0) // a phantom may be there, for a thread on its way into a blocking accept
	serve(dial(t, r.addr))
	if events != 0 {
		r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, r.fd, 0)
	}
}

// Again and again, with the same generation.
func TestUngateOften(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var set int
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
			set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
			g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, s.fd, abi.Native.EpollEvent(unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 7))
		})
		longest := time.Duration(0)
		for i := range 50 {
			r.gateAndKeep(t)
			c := dial(t, r.addr)
			if i%3 == 0 {
				r.refuses(t, r.fd)
			}
			if got := r.old.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, 0, 0, 8); got.Value != 0 || got.Errno != 0 {
				t.Fatalf("round %d: a gated process is told of a client: %+v", i, got)
			}
			over := make(chan time.Duration)
			go func() {
				began := time.Now()
				if err := r.old.tracker.Ungate(t.Context(), r.preserved.Claimed()); err != nil {
					t.Error(err)
				}
				over <- time.Since(began)
			}()
			for accepted := false; !accepted; {
				if got := r.old.Call(t, 0, unix.SYS_EPOLL_PWAIT, set, make([]byte, 48), 4, 5000, 0, 8); got.Value != 1 {
					t.Fatalf("round %d: nobody is told: %+v", i, got)
				}
				got := r.old.Call(t, 0, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
				if accepted = got.Errno == 0; accepted {
					answers(t, r.old.puppet, 0, got.Value, c)
				} else if got.Errno != unix.EAGAIN {
					t.Fatal(got.Errno)
				}
			}
			longest = max(longest, <-over)
			_ = c.Close()
		}
		t.Logf("the longest way back took %v", longest)
		r.restored(t, r.fd)
		r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, r.fd, 0)
	})
}

// What the program does with its entries while it is gated holds afterwards.
func TestUngateChangedEntries(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		for _, swapped := range []bool{false, true} {
			const removed, changed, added = 900, 901, 902
			var set int
			r := restart(t, level, unix.SOCK_NONBLOCK, 0, func(g *generation, s service) {
				set = g.Must(t, 0, unix.SYS_EPOLL_CREATE1, 0)
				for _, fd := range []int{removed, changed, added} {
					g.Must(t, 0, unix.SYS_DUP3, s.fd, fd, unix.O_CLOEXEC)
				}
				for _, fd := range []int{s.fd, removed, changed} {
					g.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, fd, abi.Native.EpollEvent(unix.EPOLLIN, uint64(fd)))
				}
			})
			r.gateAndKeep(t)
			if swapped {
				r.refuses(t, r.fd)
			}
			r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_DEL, removed, 0)
			r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_MOD, changed, abi.Native.EpollEvent(unix.EPOLLIN|unix.EPOLLET, 77))
			r.old.Must(t, 0, unix.SYS_EPOLL_CTL, set, unix.EPOLL_CTL_ADD, added, abi.Native.EpollEvent(unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 78))
			r.ungate(t)
			if level != notify.LevelListeners && swapped {
				r.refuses(t, r.fd) // it comes by
			}
			r.restored(t, r.fd, removed, changed, added)
			want := map[int]struct {
				events uint32
				data   uint64
			}{r.fd: {unix.EPOLLIN, uint64(r.fd)}, changed: {unix.EPOLLIN | unix.EPOLLET, 77}, added: {unix.EPOLLIN | unix.EPOLLEXCLUSIVE, 78}}
			found := epollset.Entries([]int{r.old.PID}, map[uint64]struct{}{r.preserved.Sockets()[0].Inode: {}})
			if len(found) != len(want) {
				t.Errorf("%d entries: %+v", len(found), found)
			}
			for _, e := range found {
				if w := want[e.Target]; e.Events&^(unix.EPOLLERR|unix.EPOLLHUP) != w.events || e.Data != w.data {
					t.Errorf("entry of descriptor %d: %x, %x", e.Target, e.Events, e.Data)
				}
			}
			serves(t, r.old.puppet, r.service)
		}
	})
}

// Several processes share the socket, and one was forked while the generation was gated.
func TestUngateWorkers(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		var workers []*puppet
		var waiting []*puppets.Pending
		var tids []int
		r := restart(t, level, 0, 3, func(g *generation, s service) {
			for range 2 {
				w := g.worker(t, s.fd)
				tids = append(tids, w.Must(t, 1, unix.SYS_GETTID))
				workers, waiting = append(workers, w), append(waiting, blocked(t, w, 1, s.fd))
			}
		})
		r.gateAndKeep(t)
		late := r.old.worker(t, r.fd)
		for i, call := range waiting {
			waiting[i] = blockedAgain(t, workers[i], 1, tids[i], r.fd, call)
		}
		workers, waiting = append(workers, late), append(waiting, late.Begin(t, 1, unix.SYS_ACCEPT4, r.fd, 0, 0, 0))
		for i, call := range waiting {
			for call.Returned() {
				call = workers[i].Begin(t, 1, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
				waiting[i] = call
			}
		}
		r.died(t)
		// One of them ends meanwhile.
		if err := unix.Kill(workers[0].PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		clients := make(map[string]net.Conn)
		r.ungate(t)
		for range 8 {
			c := dial(t, r.addr)
			clients[c.LocalAddr().String()] = c
		}
		for deadline := time.Now().Add(patience); len(clients) > 0; {
			if time.Now().After(deadline) {
				t.Fatalf("%d clients are not served", len(clients))
			}
			for i, call := range waiting[1:] {
				if !call.Returned() {
					continue
				}
				w, got := workers[i+1], call.Wait(t)
				raw := w.Call(t, 1, unix.SYS_GETPEERNAME, got.Value, make([]byte, sockaddr.SizeofStorage), []byte{sockaddr.SizeofStorage, 0, 0, 0})
				if from, err := sockaddr.Parse(raw.Memory[1][:16]); err == nil && clients[from.AddrPort.String()] != nil {
					answers(t, w, 1, got.Value, clients[from.AddrPort.String()])
					delete(clients, from.AddrPort.String())
				}
				waiting[i+1] = w.Begin(t, 1, unix.SYS_ACCEPT4, r.fd, 0, 0, 0)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// A drain that runs ends, and sends no stop signal.
func TestUngateDuringDrain(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		r := restart(t, level, unix.SOCK_NONBLOCK, 0, nil)
		client, accepted := serves(t, r.old.puppet, r.service)
		r.gateAndKeep(t)
		drained := make(chan error, 1)
		go func() {
			drained <- r.old.tracker.AwaitDrained(t.Context(), r.preserved.Claimed, func() []int { return group(r.new.PID) },
				func() { t.Error("the stop signal was sent") })
		}()
		r.refuses(t, r.fd)
		r.ungate(t)
		_ = client.Close()
		r.old.Must(t, 0, unix.SYS_CLOSE, accepted)
		select {
		case err := <-drained:
			if !errors.Is(err, ErrUngated) {
				t.Errorf("AwaitDrained: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("the drain goes on")
		}
		serves(t, r.old.puppet, r.service)
		r.restored(t, r.fd)
	})
}

// Clients that come at any moment are answered, by one generation or the other, while the gate is closed and opened.
func TestUngateUnderLoad(t *testing.T) {
	eachLevel(t, func(t *testing.T, level notify.Level) {
		const threads, rounds = 2, 10
		r := restart(t, level, 0, 0, nil)
		stop := make(chan struct{})
		done := make(chan struct{}, 2*threads)
		serve := func(p *puppet, s service, thread int) {
			defer func() { done <- struct{}{} }()
			for {
				call := p.Begin(t, thread, unix.SYS_ACCEPT4, s.fd, 0, 0, 0)
				select {
				case got := <-call.Results():
					if got.Errno != 0 {
						t.Errorf("accept: %v", got.Errno)
						return
					}
					p.Call(t, thread, unix.SYS_WRITE, got.Value, []byte("hello"), 5)
					p.Call(t, thread, unix.SYS_CLOSE, got.Value)
				case <-stop:
					return
				}
			}
		}
		for i := range threads {
			go serve(r.old.puppet, r.service, i+1)
			go serve(r.new.puppet, r.at, i+1)
		}
		ctx, cancel := context.WithCancel(t.Context())
		counted := make(chan [2]int)
		go func() {
			var n [2]int // answered, not answered
			for ctx.Err() == nil {
				c, err := net.DialTimeout("tcp", r.addr.String(), patience)
				if err != nil {
					n[1]++
					continue
				}
				buf := make([]byte, 8)
				_ = c.SetDeadline(time.Now().Add(patience))
				if k, err := c.Read(buf); err == nil && string(buf[:k]) == "hello" {
					n[0]++
				} else {
					n[1]++
				}
				_ = c.Close()
			}
			counted <- n
		}()
		longest := time.Duration(0)
		for range rounds {
			r.gateAndKeep(t)
			time.Sleep(10 * time.Millisecond)
			began := time.Now()
			if err := r.old.tracker.Ungate(t.Context(), r.preserved.Claimed()); err != nil {
				t.Error(err)
			}
			longest = max(longest, time.Since(began))
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		n := <-counted
		t.Logf("%d answered, %d not; the longest way back took %v", n[0], n[1], longest)
		if n[1] > 0 || n[0] == 0 {
			t.Errorf("%d clients were answered, %d were not", n[0], n[1])
		}
		close(stop)
		for range 2 * threads {
			<-done
		}
	})
}
