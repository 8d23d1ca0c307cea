package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// sendTimeout is how long a service manager may let its queue be full.
const sendTimeout = 5 * time.Second

// Send tells a service manager something: address is what NOTIFY_SOCKET says, a path or an @ and an abstract name, and
// each assignment is KEY=VALUE. All go in one datagram. It does nothing if the address is empty: there is no service
// manager that wants to know. It waits at most 5 s, and only if the queue is full.
//
// The sender is huptime's process: whoever started it must accept that (systemd: it is the main process, or
// NotifyAccess=all).
func Send(address string, assignments ...string) error {
	if address == "" || len(assignments) == 0 {
		return nil
	}
	if err := send(address, assignments); err != nil {
		return fmt.Errorf("cannot notify %s: %w", printable([]byte(address)), err)
	}
	return nil
}

func send(address string, assignments []string) error {
	if address[0] != '/' && address[0] != '@' || len(address) == 1 {
		// systemd has vsock: as well, for a whole virtual machine.
		return errors.New("it is neither a path nor an abstract name")
	}
	for _, a := range assignments {
		if strings.IndexByte(a, '=') <= 0 || strings.ContainsAny(a, "\n\x00") {
			return fmt.Errorf("%q is no assignment in one line", a)
		}
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: address})
	if err == nil {
		defer conn.Close()
		_ = conn.SetWriteDeadline(time.Now().Add(sendTimeout))
		_, err = conn.Write([]byte(strings.Join(assignments, "\n")))
	}
	// The address has been named already.
	var operation *net.OpError
	if errors.As(err, &operation) {
		err = operation.Err
	}
	return err
}
