package sockdiag

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/puppets"
)

// unixMessage is a struct unix_diag_msg with attributes behind it.
func unixMessage(state uint8, inode uint32, attributes ...netlink.Attribute) []byte {
	b := append([]byte{unix.AF_UNIX, unix.SOCK_STREAM, state, 0}, binary.NativeEndian.AppendUint32(nil, inode)...)
	b = append(b, make([]byte, 8)...)
	more, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		panic(err)
	}
	return append(b, more...)
}

func TestParseUnixSocket(t *testing.T) {
	t.Parallel()
	file := binary.NativeEndian.AppendUint32(nil, 77)
	for _, test := range []struct {
		what string
		b    []byte
		want UnixSocket
		bad  bool
	}{
		{"a path", unixMessage(1, 5, netlink.Attribute{Type: unixName, Data: []byte("/run/x\x00")}), UnixSocket{5, 1, "/run/x", 0, 0}, false},
		{"a path that fills its field", unixMessage(1, 5, netlink.Attribute{Type: unixName, Data: []byte(strings.Repeat("x", 108))}), UnixSocket{5, 1, strings.Repeat("x", 108), 0, 0}, false},
		{"an abstract name", unixMessage(10, 5, netlink.Attribute{Type: unixName, Data: []byte("\x00a\x00b\x00")}), UnixSocket{5, 10, "\x00a\x00b\x00", 0, 0}, false},
		{"a file", unixMessage(10, 5, netlink.Attribute{Type: unixFile, Data: append(file, 0, 0, 0, 0)}), UnixSocket{5, 10, "", 77, 0}, false},
		{"half a file", unixMessage(10, 5, netlink.Attribute{Type: unixFile, Data: file}), UnixSocket{5, 10, "", 0, 0}, false},
		{"no name, another attribute", unixMessage(1, 0, netlink.Attribute{Type: 4, Data: make([]byte, 8)}), UnixSocket{0, 1, "", 0, 0}, false},
		{"the other end", unixMessage(1, 5, netlink.Attribute{Type: unixPeer, Data: file}), UnixSocket{5, 1, "", 0, 77}, false},
		{"cut short", unixMessage(1, 5)[:15], UnixSocket{}, true},
		{"another family", append([]byte{unix.AF_INET}, unixMessage(1, 5)[1:]...), UnixSocket{}, true},
		{"a broken attribute", append(unixMessage(1, 5), 200, 0, 0, 0), UnixSocket{}, true},
	} {
		got, err := parseUnixSocket(test.b)
		if (err != nil) != test.bad || !test.bad && got != test.want {
			t.Errorf("%s: %+v, %v", test.what, got, err)
		}
	}
}

func FuzzParseUnixSocket(f *testing.F) {
	f.Add(unixMessage(1, 5, netlink.Attribute{Type: unixName, Data: []byte("/run/x\x00")}, netlink.Attribute{Type: unixFile, Data: make([]byte, 8)}))
	f.Add(unixMessage(10, 0, netlink.Attribute{Type: unixName, Data: []byte("\x00a\x00")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseUnixSocket(b)
		if err == nil && s.Name != "" && s.Name[0] != 0 && strings.IndexByte(s.Name, 0) >= 0 {
			t.Errorf("the path %q", s.Name)
		}
	})
}

// What the kernel shows of a listening socket, of what waits in its queue and of what was accepted.
func TestUnixConnections(t *testing.T) {
	t.Parallel()
	d, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	name := puppets.UnixNames(t)["path"]
	listener := puppets.OpenSocket(t, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err := unix.Bind(listener, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 8); err != nil {
		t.Fatal(err)
	}
	inode := puppets.SocketInode(t, listener)
	info, err := d.UnixSocketOf(inode)
	var st unix.Stat_t
	if errStat := unix.Stat(name, &st); errStat != nil {
		t.Fatal(errStat)
	}
	if err != nil || info.Name != name || info.File != uint32(st.Ino) {
		t.Errorf("%+v, %v; the file's inode is %d", info, err, st.Ino)
	}
	for range 2 {
		puppets.DialUnix(t, "unix", name)
	}
	accepted, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(accepted)
	names := map[string]struct{}{name: {}}
	kept := []Connection{{Inode: 1}}
	list, err := d.UnixConnections(kept, names)
	if err != nil || len(list) != 2 || list[0] != kept[0] {
		t.Fatalf("%+v, %v", list, err)
	}
	// The other one waits in the queue, and is not shown.
	if uint64(list[1].Inode) != puppets.SocketInode(t, accepted) {
		t.Errorf("%+v; accepted: %d", list, puppets.SocketInode(t, accepted))
	}
	if list, err := d.UnixConnections(nil, map[string]struct{}{name + "x": {}}); err != nil || len(list) != 0 {
		t.Errorf("of another name: %+v, %v", list, err)
	}
	if _, err := d.UnixSocketOf(uint64(^uint32(0))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such socket: %v", err)
	}
	if list, err := d.UnixConnections(nil, names); err != nil || len(list) != 1 {
		t.Errorf("after an error: %+v, %v", list, err)
	}
}
