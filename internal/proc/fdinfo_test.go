package proc

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseFDInfo(t *testing.T) {
	t.Parallel()
	const head = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n"
	for _, test := range []struct {
		name, text string
		want       FDInfo
		ok         bool
	}{
		{"file", "pos:\t0\nflags:\t0100000\nmnt_id:\t29\n", FDInfo{Flags: 0o100000}, true},
		{"flags of another kind later", "flags:\t02\ninotify wd:1\nflags:\t07\n", FDInfo{Flags: 2}, true},
		{"epoll", head + "tfd:        4 events: 90000019 data:                4  pos:0 ino:20c4 sdev:9\n",
			FDInfo{Flags: 0o2000002, Targets: []EpollTarget{{FD: 4, Events: 0x90000019, Data: 4, Inode: 0x20c4, Device: 9}}}, true},
		{"no blanks", head + "tfd:4 events:19 data:a pos:0 ino:61af sdev:1f\n",
			FDInfo{Flags: 0o2000002, Targets: []EpollTarget{{FD: 4, Events: 0x19, Data: 10, Inode: 0x61af, Device: 0x1f}}}, true},
		{"two", head + "tfd: 10 events: 1 data: ffffffffffffffff  pos:-1 ino:1 sdev:7\ntfd: 3 events: 2 data: 0  pos:0 ino:2 sdev:7\n",
			FDInfo{Flags: 0o2000002, Targets: []EpollTarget{
				{FD: 10, Events: 1, Data: 1<<64 - 1, Inode: 1, Device: 7}, {FD: 3, Events: 2, Inode: 2, Device: 7}}}, true},
		{"before 4.13", head + "tfd:        4 events:       19 data:                4\n",
			FDInfo{Flags: 0o2000002, Targets: []EpollTarget{{FD: 4, Events: 0x19, Data: 4}}}, true},
		{"something new", head + "tfd: 4 events: 1 data: 4  pos:0 ino:2 sdev:7 new:zzz\n",
			FDInfo{Flags: 0o2000002, Targets: []EpollTarget{{FD: 4, Events: 1, Data: 4, Inode: 2, Device: 7}}}, true},
		{"no newline at the end", "flags:\t02", FDInfo{Flags: 2}, true},
		{"no flags", "pos:\t0\n", FDInfo{}, false},
		{"not octal", "flags:\t08\n", FDInfo{}, false},
		{"flags of more than 32 bits", "flags:\t040000000000\n", FDInfo{}, false},
		{"flags without a number", "flags:\t\n", FDInfo{}, false},
		{"a target cut short", head + "tfd: 4 events: 1\n", FDInfo{}, false},
		{"a target without a number", head + "tfd:\n", FDInfo{}, false},
		{"a negative target", head + "tfd: -4 events: 1 data: 4\n", FDInfo{}, false},
		{"events of more than 32 bits", head + "tfd: 4 events: 100000000 data: 4\n", FDInfo{}, false},
		{"data of more than 64 bits", head + "tfd: 4 events: 1 data: 10000000000000000\n", FDInfo{}, false},
		{"data not hexadecimal", head + "tfd: 4 events: 1 data: 4g\n", FDInfo{}, false},
		{"empty", "", FDInfo{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			info, err := ParseFDInfo([]byte(test.text))
			if !reflect.DeepEqual(info, test.want) || (err == nil) != test.ok {
				t.Fatalf("%+v, %v; want %+v", info, err, test.want)
			}
			if err != nil && !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is no ErrFormat", err)
			}
		})
	}
}

func FuzzParseFDInfo(f *testing.F) {
	f.Add([]byte("pos:\t0\nflags:\t02000002\ntfd:        4 events: 90000019 data:                4  pos:0 ino:20c4 sdev:9\n"))
	f.Add([]byte("flags:\t0\ntfd: 1 events:\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := ParseFDInfo(b)
		if err != nil && (info.Flags != 0 || info.Targets != nil) {
			t.Fatalf("%v and %+v", err, info)
		}
		for _, target := range info.Targets {
			if target.FD < 0 {
				t.Fatalf("%+v", target)
			}
		}
	})
}

func TestReadFDInfoCloseOnExec(t *testing.T) {
	t.Parallel()
	for _, flags := range []int{0, unix.SOCK_CLOEXEC, unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK} {
		fd, _ := socket(t, flags)
		info, err := ReadFDInfo(os.Getpid(), fd)
		if err != nil {
			t.Fatal(err)
		}
		if info.CloseOnExec() != (flags&unix.SOCK_CLOEXEC != 0) || info.Flags&unix.O_NONBLOCK != uint32(flags&unix.SOCK_NONBLOCK) {
			t.Errorf("flags %#o: %#o", flags, info.Flags)
		}
	}
}

func TestReadFDInfoOfEpoll(t *testing.T) {
	t.Parallel()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epoll)
	// More than fit into the buffer that is on the stack.
	want := make(map[int]EpollTarget)
	for i := range 200 {
		fd, inode := socket(t, unix.SOCK_CLOEXEC)
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(i), Pad: -1}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			t.Fatal(err)
		}
		want[fd] = EpollTarget{FD: fd, Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Data: 0xffffffff<<32 | uint64(i), Inode: inode}
	}
	info, err := ReadFDInfo(os.Getpid(), epoll)
	if err != nil || !info.CloseOnExec() || len(info.Targets) != len(want) {
		t.Fatalf("%d targets, flags %#o, %v", len(info.Targets), info.Flags, err)
	}
	for _, got := range info.Targets {
		w := want[got.FD]
		w.Device = got.Device         // the kernel's own number of sockfs
		w.Events |= got.Events & 0x18 // it adds EPOLLERR and EPOLLHUP
		if got != w || got.Device == 0 {
			t.Errorf("%+v, want %+v", got, w)
		}
	}
}
