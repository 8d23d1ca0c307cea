package sockaddr

import (
	"bytes"
	"strconv"
)

// SizeofUn is struct sockaddr_un: the family and 108 bytes (unix(7)).
const SizeofUn = 110

// UnixName is what follows the family of a unix address, as net/unix/af_unix.c does (unix_validate_addr, unix_mkname_bsd):
// nothing, for a name of the kernel's choice; NUL and an abstract name, to its very end, NULs and all; or a path, to its NUL
// if it has one.
func UnixName(b []byte) string {
	if len(b) == 0 || b[0] == 0 {
		return string(b)
	}
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// IsPath tells whether a unix address is a path.
func (a Address) IsPath() bool { return a.Name != "" && a.Name[0] != 0 }

// UnixString is a unix address as people write it: "unix:/run/x", "unix:@name".
func UnixString(name string) string {
	if name != "" && name[0] == 0 {
		name = "@" + name[1:]
	}
	for _, r := range name {
		if !strconv.IsPrint(r) {
			return "unix:" + strconv.Quote(name)
		}
	}
	return "unix:" + name
}
