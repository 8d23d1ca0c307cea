package proc

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// FDInfo is what is used of /proc/PID/fdinfo/FD, proc_pid_fdinfo(5).
type FDInfo struct {
	// Flags are those of open(2): access mode, O_NONBLOCK and, from the descriptor, O_CLOEXEC (octal 02000000).
	Flags uint32
	// Targets are the registrations of an epoll set; none for anything else.
	Targets []EpollTarget
}

// CloseOnExec tells whether the descriptor is closed by exec. It is a property of the descriptor, not of the open file;
// fs/proc/fd.c adds it as O_CLOEXEC (which is another number than the FD_CLOEXEC of fcntl(2)).
func (i FDInfo) CloseOnExec() bool { return i.Flags&unix.O_CLOEXEC != 0 }

// EpollTarget is one "tfd:" line: one file registered in an epoll set. The kernel keeps the number that the file had when
// it was registered: by now that number can be closed or another file's, so compare Inode with the descriptor's.
type EpollTarget struct {
	FD     int
	Events uint32 // EPOLLIN and so on, with EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLET
	Data   uint64 // the program's own word
	Inode  uint64
	Device uint64 // the kernel's own dev_t of the file system (major << 20 | minor), not stat(2)'s
}

// ReadFDInfo reads /proc/PID/fdinfo/FD.
func ReadFDInfo(pid, fd int) (FDInfo, error) {
	var nameBuf [24]byte
	name := path(pid, string(strconv.AppendInt(append(nameBuf[:0], "/fdinfo/"...), int64(fd), 10)))
	var buf [4096]byte
	b, err := readAll(name, buf[:])
	if err != nil {
		return FDInfo{}, err
	}
	info, err := ParseFDInfo(b)
	if err != nil {
		return FDInfo{}, cannotRead(name, err)
	}
	return info, nil
}

// ParseFDInfo parses the content of an fdinfo file. Lines that it does not know are passed over: each kind of file has
// its own.
func ParseFDInfo(b []byte) (FDInfo, error) {
	var info FDInfo
	found := false
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		if value, ok := bytes.CutPrefix(l, []byte("flags:")); ok && !found {
			value, _ = word(value)
			flags, rest, ok := octal(value)
			if !ok || len(rest) != 0 || flags>>32 != 0 {
				return FDInfo{}, fmt.Errorf("%w: flags %q", ErrFormat, string(value))
			}
			info.Flags, found = uint32(flags), true
		} else if value, ok := bytes.CutPrefix(l, []byte("tfd:")); ok {
			target, ok := parseTarget(value)
			if !ok {
				return FDInfo{}, fmt.Errorf("%w: epoll target %q", ErrFormat, string(value))
			}
			info.Targets = append(info.Targets, target)
		}
	}
	if !found {
		return FDInfo{}, fmt.Errorf("%w: no flags in fdinfo", ErrFormat)
	}
	return info, nil
}

// parseTarget parses what follows "tfd:". fs/eventpoll.c, ep_show_fdinfo prints
// "tfd: %8d events: %8x data: %16llx  pos:%lli ino:%lx sdev:%x": only the descriptor and the position are decimal.
func parseTarget(b []byte) (EpollTarget, bool) {
	var t EpollTarget
	value, rest := word(b)
	fd, tail, ok := signed(value)
	if !ok || len(tail) != 0 || fd < 0 {
		return t, false
	}
	t.FD = fd
	seen := 0
	for len(rest) > 0 {
		var key []byte
		key, rest = word(rest)
		colon := bytes.IndexByte(key, ':')
		if colon < 0 {
			return t, false
		}
		key, value = key[:colon], key[colon+1:]
		if len(value) == 0 {
			// With a blank after the colon, as the padded ones have it.
			value, rest = word(rest)
		}
		var to *uint64
		var events uint64
		switch string(key) {
		case "events":
			to = &events
		case "data":
			to = &t.Data
		case "ino":
			to = &t.Inode
		case "sdev":
			to = &t.Device
		default:
			// The position (signed), and whatever a later kernel adds.
			continue
		}
		n, tail, ok := hexadecimal(value)
		if !ok || len(tail) != 0 {
			return t, false
		}
		*to = n
		if to == &events {
			if n>>32 != 0 {
				return t, false
			}
			t.Events = uint32(n)
		}
		seen++
	}
	return t, seen >= 2 // events and data have always been there; the rest since 4.13
}
