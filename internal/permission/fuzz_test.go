package permission

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// The credentials that a status file is written of are those that are read, whatever the process calls itself; and what
// is no status file is an error, never somebody's credentials.
func FuzzParseStatus(f *testing.F) {
	// A real one (Linux 6.18), cut.
	f.Add([]byte("Name:\tnginx\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t71\n"+
		"Uid:\t0\t33\t33\t33\nGid:\t0\t33\t33\t33\nFDSize:\t64\nGroups:\t4 33 \n"+
		"CapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000400\nCapBnd:\t000001ffffffffff\n"),
		"nginx", uint32(33), uint32(33), uint64(1<<10), []byte{4, 0, 0, 0, 33, 0, 0, 0})
	f.Add([]byte("Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\nCapEff:\tx\n"),
		"\nUid:\t0\t0\t0\t0\n", uint32(1000), ^uint32(0), uint64(0), []byte{})
	f.Add([]byte("Uid:\t1\t1\t1\t4294967296\nGid:\t1\t1\t1\t1\nGroups:\t\nCapEff:\t0\n"),
		`\`, uint32(0), uint32(0), ^uint64(0), []byte{1, 2, 3})
	f.Add([]byte("Uid:\t1\t1\t1\t1\nUid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n"),
		"", uint32(1), uint32(1), uint64(1), []byte{})
	escaped := strings.NewReplacer("\n", `\n`, `\`, `\\`) // fs/proc/array.c, proc_task_name
	f.Fuzz(func(t *testing.T, b []byte, name string, uid, gid uint32, caps uint64, groups []byte) {
		if c, err := parseStatus(b); err != nil && !errors.Is(err, proc.ErrFormat) {
			t.Fatalf("%q: %+v, %v", b, c, err)
		} else if err == nil {
			for _, key := range []string{"Uid:", "Gid:", "Groups:", "CapEff:"} {
				if !strings.Contains("\n"+string(b), "\n"+key) {
					t.Fatalf("%q has no %s and is %+v", b, key, c)
				}
			}
			if len(c.Groups) > len(b) {
				t.Fatalf("%d groups of %d bytes", len(c.Groups), len(b))
			}
		}
		want := Credentials{UID: uid, GID: gid, Effective: uid + 1, Caps: caps}
		var list strings.Builder
		for ; len(groups) >= 4; groups = groups[4:] {
			g := binary.LittleEndian.Uint32(groups)
			want.Groups = append(want.Groups, g)
			fmt.Fprintf(&list, "%d ", g)
		}
		text := fmt.Appendf(nil,
			"Name:\t%s\nUid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nGroups:\t%s\nCapPrm:\t%016x\nCapEff:\t%016x\n",
			escaped.Replace(name),
			^uid, want.Effective, ^uid, uid, ^gid, ^gid, ^gid, gid, list.String(), ^caps, caps)
		c, err := parseStatus(text)
		if err != nil || c.UID != want.UID || c.GID != want.GID || c.Effective != want.Effective || c.Caps != want.Caps ||
			!slices.Equal(c.Groups, want.Groups) {
			t.Fatalf("%q: %+v, %v", text, c, err)
		}
	})
}

// An id is mapped where one of the ranges that were written has it, and where none are written no id is.
func FuzzParseMap(f *testing.F) {
	// uid_map of a container, and of the initial namespace.
	f.Add([]byte("         0       1000          1\n         1     100000      65536\n"),
		uint32(1000), uint32(0), uint32(1000), uint32(1))
	f.Add([]byte("         0          0 4294967295\n"), uint32(0), uint32(0), uint32(0), ^uint32(0))
	f.Add([]byte("0 0\n1\n"), ^uint32(0), uint32(1), ^uint32(0)-1, uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, id, inside, outside, count uint32) {
		list, err := parseMap(b)
		if err != nil && (list != nil || !errors.Is(err, proc.ErrFormat)) ||
			err == nil && (list == nil || len(list) > len(b)) {
			t.Fatalf("%q: %v, %v", b, list, err)
		}
		if mapped(list, id) && len(list) == 0 && err == nil {
			t.Fatalf("%q maps %d", b, id)
		}
		list, err = parseMap(fmt.Appendf(nil, "%10d %10d %10d\n%10d %10d %10d\n", inside, outside, count, 0, 7, 1))
		has := uint64(id) >= uint64(outside) && uint64(id) < uint64(outside)+uint64(count) || id == 7
		if err != nil || len(list) != 2 || mapped(list, id) != has {
			t.Fatalf("%d to %d and 7: %v, %v; %d is mapped: %t", outside, uint64(outside)+uint64(count), list, err,
				id, mapped(list, id))
		}
	})
}

// Written down again, an access list is what was read; and who is let in by it with a right is let in with less.
func FuzzParseList(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255})
	// user::rwx, user:1000:r-x, group::r-x, mask::r-x, other::---, as setfacl(1) writes it.
	f.Add([]byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x05\x00\xe8\x03\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" +
		"\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list := parseList(b)
		if list != nil {
			again := binary.LittleEndian.AppendUint32(nil, 2)
			for _, e := range list {
				again = binary.LittleEndian.AppendUint16(again, e.tag)
				again = binary.LittleEndian.AppendUint16(again, e.allows)
				again = binary.LittleEndian.AppendUint32(again, e.id)
			}
			if len(b)-len(again) >= 8 || !strings.HasPrefix(string(b), string(again)) {
				t.Fatalf("%x is %+v", b, list)
			}
		}
		for _, c := range []Credentials{{UID: 1, GID: 2}, {UID: 1000, GID: 0, Groups: []uint32{0xffffffff}}} {
			both, there := c.byList(list, &unix.Stat_t{}, execute|write)
			one, too := c.byList(list, &unix.Stat_t{}, execute)
			if there != (len(list) > 0) || too != there || both && !there {
				t.Fatalf("%+v: %t, %t and %t, %t", list, both, there, one, too)
			}
			if both && !one {
				t.Fatalf("%+v: %+v may write and search, but not search", list, c)
			}
		}
	})
}
