package sockets

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"huptime/internal/abi"
	"huptime/internal/proc"
	"huptime/sockets/sockdiag"
)

// Whatever call a thread is in, of whatever ABI, and whatever it points to: the descriptors that it waits on are those
// that the kernel would look at, and no more of its memory is read than the call has.
func FuzzWaitsAt(f *testing.F) {
	pollfds := []byte("\x05\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00\x06\x00\x00\x00\x04\x00\x01\x00")
	f.Add(byte(abi.AMD64), int64(7), uint64(0x7ffd1000), uint64(3), pollfds)
	f.Add(byte(abi.AMD64), int64(270), uint64(6), uint64(0x7ffd1000), []byte("\xff\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(byte(abi.AMD64), int64(23), uint64(1<<32|1025), uint64(0x7ffd1000), bytes.Repeat([]byte{1}, 129))
	f.Add(byte(abi.AMD64), int64(232), uint64(9), uint64(0x7ffd1000), []byte{})
	f.Add(byte(abi.I386), int64(102), uint64(5), uint64(0xffffd000), []byte("\x03\x00\x00\x00"))
	f.Add(byte(abi.I386), int64(102), uint64(12), uint64(0xffffd000), []byte("\x03\x00"))
	f.Add(byte(abi.ARM64), int64(73), uint64(0xffff1000), ^uint64(0), bytes.Repeat(pollfds, 2000))
	f.Add(byte(abi.ARM64), int64(202), ^uint64(0), uint64(0), []byte{})
	f.Add(byte(abi.ARM), int64(-1), uint64(0), uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, which byte, number int64, first, second uint64, mem []byte) {
		code := abi.ABI(which % byte(abi.ARM+2))
		reads := 0
		read := func(addr, size uint64) []byte {
			if reads++; size > 8*maxPolled || addr != first && addr != second || reads > 1 {
				t.Fatalf("%s %d: %d bytes at %#x, the %dth time", code, number, size, addr, reads)
			}
			if size == 0 || size > uint64(len(mem)) {
				return nil
			}
			return mem[:size]
		}
		now := proc.Syscall{Number: number, Args: [6]uint64{first, second, 7, 8, 9, 10}}
		call, args := unpackWith(read, code, now)
		switch {
		case number >= 0 && code.InMemory(number) && call != abi.Other:
			if args != [6]uint64{uint64(binary.NativeEndian.Uint32(mem))} || reads != 1 {
				t.Fatalf("%s of %x, from %x", call, args, mem)
			}
		case args != now.Args || number < 0 && call != abi.Other:
			t.Fatalf("%s %d is %s of %x", code, number, call, args)
		}
		reads = 0
		fds, set := waitsWith(read, code, now)
		var want []int
		wantSet := -1
		switch call {
		case abi.Accept, abi.Recv:
			want = []int{int(int32(args[0]))}
		case abi.EpollWait:
			wantSet = int(int32(args[0]))
		case abi.Poll, abi.Ppoll:
			var array []unix.PollFd
			if n := min(uint32(second), maxPolled); 8*int(n) <= len(mem) {
				array = make([]unix.PollFd, n)
				if _, err := binary.Decode(mem, binary.NativeEndian, array); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range array {
				if p.Fd >= 0 && p.Events&unix.POLLIN != 0 {
					want = append(want, int(p.Fd))
				}
			}
		case abi.Select, abi.Pselect6:
			n := int(min(uint32(first), maxPolled))
			for fd := 0; fd < n && (n+7)/8 <= len(mem); fd++ {
				if mem[fd/8]>>(fd%8)&1 != 0 {
					want = append(want, fd)
				}
			}
		}
		if !slices.Equal(fds, want) || set != wantSet {
			t.Fatalf("%s of %x waits on %v and %d, want %v and %d", call, args, fds, set, want, wantSet)
		}
	})
}

// What the kernel writes is counted, nothing else is, and no name counts.
func FuzzContextSwitches(f *testing.F) {
	// Of Linux 6.18, cut.
	f.Add([]byte("Name:\tnginx\nThreads:\t1\nCpus_allowed:\t3\nMems_allowed_list:\t0\n"+
		"voluntary_ctxt_switches:\t1507\nnonvoluntary_ctxt_switches:\t21\n"),
		"\nvoluntary_ctxt_switches:\t9\n", uint32(1507), uint32(21))
	f.Add([]byte("voluntary_ctxt_switches:\t18446744073709551616\nvoluntary_ctxt_switches\n:"),
		"a:voluntary_ctxt_switches", uint32(0), ^uint32(0))
	escaped := strings.NewReplacer("\n", `\n`, `\`, `\\`) // fs/proc/array.c, proc_task_name
	f.Fuzz(func(t *testing.T, b []byte, name string, voluntary, not uint32) {
		if n := switchesIn(b); n != 0 && !bytes.Contains(b, []byte("voluntary_ctxt_switches:")) {
			t.Fatalf("%q: %d", b, n)
		}
		text := fmt.Appendf(nil, "Name:\t%s\nPid:\t7\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n",
			escaped.Replace(name), voluntary, not)
		if n := switchesIn(text); n != uint64(voluntary)+uint64(not) {
			t.Fatalf("%q: %d", text, n)
		}
	})
}

func FuzzPortRange(f *testing.F) {
	f.Add("32768\t60999\n", uint16(32768), uint16(60999))
	f.Add("1 65536", uint16(0), ^uint16(0))
	f.Add("-1 2 3", uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, text string, from, to uint16) {
		low, high, ok := portRange(text)
		if !ok && (low != 0 || high != 0) || ok && !strings.ContainsAny(text, "0123456789") {
			t.Fatalf("%q: %d to %d, %t", text, low, high, ok)
		}
		if low, high, ok := portRange(fmt.Sprintf("%d\t%d\n", from, to)); !ok || low != from || high != to {
			t.Fatalf("%d to %d is %d to %d, %t", from, to, low, high, ok)
		}
	})
}

// The connections that a list has been written of are found, to the names that were asked for, whatever others are
// called; from any other text come inodes that are in it, and names that were asked for.
func FuzzConnectedIn(f *testing.F) {
	f.Add([]byte("Num       RefCount Protocol Flags    Type St Inode Path\n"+
		"00000000b2e7f2d1: 00000002 00000000 00010000 0001 01 20489 /run/app.sock\n"+
		"000000004f2d2e0a: 00000003 00000000 00000000 0001 03 31881 /run/app.sock\n"+
		"000000001c8d7a77: 00000003 00000000 00000000 0001 03  1882\n"+
		"000000001c8d7a78: 00000002 00000000 00000000 0002 01 18832 @/tmp/.X11-unix/X0\n"),
		"/run/app.sock", "/run/other", uint32(31881))
	f.Add([]byte("03"), "/a", "/tmp/x /a", uint32(0))
	f.Add([]byte{}, "/a", "/a\n0: 00000003 00000000 00000000 0001 03 7 /a", uint32(1))
	f.Add([]byte("0: 3 0 0 1 03 4294967296 /a\n0: 3 0 0 1 03 00000000001 /a"), "/a", "/a\n/b", ^uint32(0))
	f.Fuzz(func(t *testing.T, text []byte, name, other string, inode uint32) {
		names := map[string]struct{}{name: {}}
		for _, c := range connectedIn(text, names) {
			if c.Name != name || c.Inode == 0 || !bytes.Contains(text, []byte(name)) ||
				!bytes.Contains(text, fmt.Append(nil, c.Inode)) ||
				c.Family != unix.AF_UNIX || c.State != sockdiag.TCPEstablished {
				t.Fatalf("%q: %+v", text, c)
			}
		}
		if n := len(connectedIn(text, names)); n > bytes.Count(text, []byte("\n"))+1 {
			t.Fatalf("%q: %d connections", text, n)
		}
		// What could be a path: the kernel writes no NUL. A newline in another one's path makes a line of its own, which
		// the kernel does not tell from others.
		if name == "" || name == other || strings.IndexByte(name+other, 0) >= 0 || strings.Contains(other, "\n") {
			return
		}
		var list []byte
		want := []uint32{}
		for i, path := range []string{other, name, name, other, name} {
			for _, state := range []int{1, 3} { // net/unix/af_unix.c, unix_seq_show
				n := inode + uint32(2*i+state)
				list = fmt.Appendf(list, "%016x: %08X %08X %08X %04X %02X %5d %s\n", i, 2, 0, 0, 1, state, n, path)
				if path == name && state == 3 && n != 0 {
					want = append(want, n)
				}
			}
		}
		got := []uint32{}
		for _, c := range connectedIn(list, names) {
			got = append(got, c.Inode)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q in %q: %d, want %d", name, list, got, want)
		}
	})
}

// Of what is sent only the one descriptor that was asked for is taken; all else is an error, and closed.
func FuzzReceiveDescriptor(f *testing.F) {
	f.Add(byte(1), []byte{0}, true)
	f.Add(byte(1), []byte("xy"), false)
	f.Add(byte(2), []byte{0}, true)
	f.Add(byte(3), []byte{}, true)
	f.Add(byte(0), []byte{}, true)
	f.Fuzz(func(t *testing.T, number byte, data []byte, right bool) {
		if len(data) > 4096 {
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[0])
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", pipe[1]))
		if err != nil {
			t.Fatal(err)
		}
		if !right {
			link = "socket:[1]"
		}
		var rights []byte
		passed := slices.Repeat(pipe[1:], int(number)%5)
		if len(passed) > 0 {
			rights = unix.UnixRights(passed...)
		}
		err = unix.Sendmsg(pair[1], data, rights, nil, 0)
		unix.Close(pipe[1]) // all that is left of it is on its way
		if err != nil {
			t.Fatal(err)
		}
		fd, err := receiveDescriptor(pair[0], link)
		if (err == nil) != (len(passed) == 1 && right) || (err == nil) != (fd >= 0) {
			t.Fatalf("%d of %d, %v", fd, len(passed), err)
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		// What is not taken is closed by others, without being waited for.
		poll := []unix.PollFd{{Fd: int32(pipe[0])}}
		for {
			n, err := unix.Poll(poll, 10_000)
			if err == unix.EINTR {
				continue
			}
			if n != 1 || poll[0].Revents != unix.POLLHUP {
				t.Fatalf("%d of %d were left open: %d, %#x, %v", fd, len(passed), n, poll[0].Revents, err)
			}
			break
		}
	})
}
