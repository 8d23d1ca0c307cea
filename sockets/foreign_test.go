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
	if len(list) != 1 || list[0].Inode != 101 || list[0].name != "/run/a" {
		t.Errorf("%+v", list)
	}
}
