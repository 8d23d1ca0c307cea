package sockdiag_test

import (
	"fmt"
	"net"

	"github.com/huptime/huptime/sockets/sockdiag"
)

// Who is connected to a server of this machine.
func ExampleConn_TCPConnections() {
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client, err := net.Dial("tcp4", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	c, err := sockdiag.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	port := uint16(server.Addr().(*net.TCPAddr).Port)
	list, err := c.TCPConnections(nil, map[uint16]struct{}{port: {}})
	for _, one := range list {
		fmt.Println(one.Remote.String() == client.LocalAddr().String(), "waits to be accepted:", one.Inode == 0)
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// true waits to be accepted: true
}
