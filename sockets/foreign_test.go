package sockets

import "testing"

func TestConnectedIn(t *testing.T) {
	text := []byte("Num       RefCount Protocol Flags    Type St Inode Path\n" +
		"0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/a\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 101 /run/a\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 102\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 103 /run/a b\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 x /run/a\n" +
		"cut")
	list := connectedIn(text, map[string]struct{}{"/run/a": {}})
	if len(list) != 1 || list[0].Inode != 101 || list[0].Name != "/run/a" {
		t.Errorf("%+v", list)
	}
}

// A path ends where the line does, not where another path ends like it; and it may be more than one line.
func TestConnectedInOddPaths(t *testing.T) {
	text := []byte("0000000000000000: 00000003 00000000 00000000 0001 03   101 /tmp/x /run/a\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 102 /run/b\n/c\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 103 /run/a")
	list := connectedIn(text, map[string]struct{}{"/run/a": {}, "/run/b": {}, "/run/b\n/c": {}})
	if len(list) != 2 || list[0].Inode != 102 || list[0].Name != "/run/b\n/c" || list[1].Inode != 103 {
		t.Errorf("%+v", list)
	}
}
