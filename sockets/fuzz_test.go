package sockets

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockdiag"
)

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
