package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The supervisor and the launcher talk over one SOCK_SEQPACKET pair:
//
//	supervisor → launcher   instructions
//	launcher → supervisor   message{} with the listener attached, once the filter is loaded
//	launcher → supervisor   message{Failed: ...} when it can't go on
//	(end of file)           the service runs: execve closed the launcher's end

// instructions is all that a launcher needs and can't see for itself.
type instructions struct {
	Program    []byte
	Dir        []byte   `json:",omitempty"` // bytes, because a path need not be UTF-8
	Unfiltered bool     `json:",omitempty"`
	Trial      bool     `json:",omitempty"` // install the filter and end
	Through    []string `json:",omitempty"`
	Passed     []string `json:",omitempty"` // names of the descriptors from 3 on, if they are for LISTEN_FDS
	// Hangup leaves SIGHUP its default action; otherwise it is ignored.
	Hangup bool `json:",omitempty"`
}

// message is what a launcher reports.
type message struct {
	Failed *LaunchError `json:",omitempty"`
}

// maxMessage bounds one packet. Instructions hold a program of at most 4,096
// instructions of 8 bytes, in base64.
const maxMessage = 64 << 10

func sendMessage(fd int, v any, descriptors ...int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var oob []byte
	if len(descriptors) > 0 {
		oob = unix.UnixRights(descriptors...)
	}
	for {
		err = unix.Sendmsg(fd, b, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// errEnd says that the other side has closed its end.
var errEnd = errors.New("the other side has closed the connection")

// receiveMessage waits for one packet. It returns the descriptor that came with it,
// or -1; the caller owns it.
func receiveMessage(fd int, v any) (int, error) {
	buf := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	for {
		var err error
		n, oobn, _, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECONNRESET {
			return -1, errEnd
		}
		if err != nil {
			return -1, os.NewSyscallError("recvmsg", err)
		}
		break
	}
	if n == 0 {
		return -1, errEnd
	}
	got, err := attached(oob[:oobn])
	if err != nil {
		return -1, err
	}
	if err := json.Unmarshal(buf[:n], v); err != nil {
		if got >= 0 {
			unix.Close(got)
		}
		return -1, fmt.Errorf("cannot read a message of the launcher's: %w", err)
	}
	return got, nil
}

func attached(oob []byte) (int, error) {
	if len(oob) == 0 {
		return -1, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		if len(fds) == 1 {
			return fds[0], nil
		}
		for _, fd := range fds {
			unix.Close(fd) // there is room for two: the kernel pads to a word
		}
	}
	return -1, nil
}
