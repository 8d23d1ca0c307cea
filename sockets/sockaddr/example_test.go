package sockaddr_test

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// What a program has passed to bind(2), as it was read from its memory.
func ExampleParse() {
	a, err := sockaddr.Parse([]byte{unix.AF_INET, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	fmt.Println(a, err)
	_, err = sockaddr.Parse([]byte{unix.AF_INET, 0, 0x1f, 0x90})
	fmt.Println(err)
	// Output:
	// 127.0.0.1:8080 <nil>
	// cannot parse IPv4 address of 4 bytes: address too short
}
