package notify

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The arguments are the words in memory, as many as the call has, and nothing of the registers; nothing else is read;
// and where they can't be read the call stays another one with the arguments that it has.
func FuzzDecodeSocketcall(f *testing.F) {
	f.Add(uint64(2), uint64(0xffffd5c0), []byte("\x05\x00\x00\x00\xe0\xd5\xff\xff\x10\x00\x00\x00"), uint64(0))
	f.Add(uint64(4), uint64(0xffffd5c0), []byte("\x05\x00\x00\x00\x80\x00\x00\x00"), ^uint64(0))
	f.Add(uint64(18),
		uint64(1<<32|0x08048000), []byte("\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00"), uint64(7))
	f.Add(uint64(5), uint64(0), []byte{}, uint64(1))
	f.Add(uint64(1<<32|1), uint64(0), []byte{}, uint64(1))
	calls := map[uint32]struct {
		call Call
		size int
	}{2: {CallBind, 12}, 3: {CallConnect, 12}, 4: {CallListen, 8},
		5: {CallAccept, 12}, 18: {CallAccept, 16}} // include/uapi/linux/net.h
	f.Fuzz(func(t *testing.T, which, at uint64, memory []byte, other uint64) {
		given := [6]uint64{which, at, other, other + 1, other + 2, other + 3}
		r := Request{Arch: ArchI386, Number: i386Socketcall, Args: given}
		reads := 0
		r.decodeSocketcall(func(addr uint64, buf []byte) error {
			if reads++; addr != at&(1<<32-1) || len(buf) > 16 {
				t.Fatalf("%d bytes at %#x, want %#x", len(buf), addr, at)
			}
			if len(buf) > len(memory) {
				return unix.EFAULT
			}
			copy(buf, memory)
			return nil
		})
		want, known := calls[uint32(which)]
		if !known || want.size > len(memory) {
			if r.Call != CallOther || r.Args != given || reads > 1 || !known && reads != 0 {
				t.Fatalf("%d is %v of %x after %d reads", which, r.Call, r.Args, reads)
			}
			return
		}
		var args [6]uint64
		for i := range want.size / 4 {
			args[i] = uint64(binary.LittleEndian.Uint32(memory[4*i:]))
		}
		if r.Call != want.call || r.Args != args || reads != 1 {
			t.Fatalf("%d is %v of %x after %d reads, want %v of %x", which, r.Call, r.Args, reads, want.call, args)
		}
	})
}

// A path is what is before its NUL, wherever it lies, and no page is touched that it does not reach.
func FuzzReadPath(f *testing.F) {
	f.Add(uint64(0x7ffc_8000_0000), uint16(0xf3a), []byte("/run/nginx.pid\x00LANG=C"), uint8(0))
	f.Add(uint64(0), uint16(smallestPage-1), []byte("/\xff\n/x\x00"), uint8(0))
	f.Add(^uint64(0), uint16(smallestPage-8), []byte("/abcdefg"), uint8(0)) // runs into what is not there
	f.Add(uint64(1<<40), uint16(77), []byte("/"), uint8(255))
	f.Fuzz(func(t *testing.T, base uint64, offset uint16, path []byte, repeat uint8) {
		if len(path) > unix.PathMax {
			return
		}
		base, offset = base&^(smallestPage-1), offset%smallestPage
		// One page or several, and nothing behind them.
		times := min(int(repeat)+1, 2*unix.PathMax/(len(path)+1)+1)
		memory := append(bytes.Repeat([]byte{'~'}, int(offset)), bytes.Repeat(path, times)...)
		for len(memory)%smallestPage != 0 {
			memory = append(memory, '~')
		}
		total := 0
		got, err := readPath(base+uint64(offset), func(addr uint64, buf []byte) error {
			at := addr - base
			if total += len(buf); len(buf) == 0 || total > unix.PathMax ||
				at/smallestPage != (at+uint64(len(buf))-1)/smallestPage {
				t.Fatalf("%d bytes at %d, %d in all", len(buf), at, total)
			}
			if at >= uint64(len(memory)) {
				return unix.EFAULT
			}
			copy(buf, memory[at:])
			return nil
		})
		var behind []byte
		if int(offset) < len(memory) {
			behind = memory[offset:]
		}
		end := bytes.IndexByte(behind[:min(len(behind), unix.PathMax)], 0)
		switch {
		case end >= 0 && (err != nil || got != string(behind[:end])):
			t.Fatalf("%q, %v, want %q", got, err, behind[:end])
		case end >= 0:
		case len(behind) >= unix.PathMax && (got != "" || err != ErrLongPath):
			t.Fatalf("%q, %v, want %v", got, err, ErrLongPath)
		case len(behind) < unix.PathMax && (got != "" || err != unix.EFAULT):
			t.Fatalf("%q, %v, want %v", got, err, unix.EFAULT)
		}
	})
}

// What is sent arrives. Whatever else comes is one error or none, and of the descriptors that come with it no other is
// left open than the one that is returned.
func FuzzReceiveMessage(f *testing.F) {
	whole, err := json.Marshal(message{Failed: &LaunchError{Op: opFind, Command: "nginx", Errno: unix.ENOENT}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("{}"), byte(1), []byte("/srv/\xff"))
	f.Add(whole, byte(0), []byte{})
	f.Add([]byte("{"), byte(1), []byte("/"))
	f.Add([]byte("{}"), byte(2), []byte{0})
	f.Add([]byte(`{"Failed":{"Errno":-1}}`), byte(3), []byte("x"))
	f.Add([]byte{}, byte(0), []byte("x"))
	f.Fuzz(func(t *testing.T, packet []byte, number byte, dir []byte) {
		if len(packet) > maxMessage || len(dir) > maxMessage/8 {
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		sent := instructions{Program: bytes.Repeat(dir, 2), Dir: dir, Hangup: number%2 == 0, Trial: number%3 == 0}
		if err := sendMessage(pair[1], sent); err != nil {
			t.Fatal(err)
		}
		var got instructions
		if fd, err := receiveMessage(pair[0], &got); fd != -1 || err != nil || !bytes.Equal(got.Program, sent.Program) ||
			!bytes.Equal(got.Dir, sent.Dir) ||
			got.Hangup != sent.Hangup || got.Trial != sent.Trial {
			t.Fatalf("%+v, %d, %v, want %+v", got, fd, err, sent)
		}
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[0])
		passed := slices.Repeat(pipe[1:], int(number)%4)
		var rights []byte
		if len(passed) > 0 {
			if rights = unix.UnixRights(passed...); len(packet) == 0 {
				packet = []byte{0} // as x/sys does
			}
		}
		err = unix.Sendmsg(pair[1], packet, rights, nil, 0)
		unix.Close(pipe[1]) // all that is left of it is on its way
		if err != nil {
			t.Fatal(err)
		}
		var m, want message
		fd, err := receiveMessage(pair[0], &m)
		switch bad := json.Unmarshal(packet, &want); {
		case len(packet) == 0 && (err != errEnd || fd != -1):
			t.Fatalf("the end is %d, %v", fd, err)
		case (err == nil) != (len(packet) > 0 && bad == nil) || err == nil && !reflect.DeepEqual(m, want):
			t.Fatalf("%q is %+v, %v", packet, m, err)
		case (fd >= 0) != (err == nil && len(passed) == 1):
			t.Fatalf("descriptor %d of %d with %q, %v", fd, len(passed), packet, err)
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Fatalf("%q", err)
		}
		if m.Failed != nil {
			_ = m.Failed.Error()
			if status := m.Failed.ExitStatus(); status < 125 || status > 127 {
				t.Fatalf("%+v ends with %d", m.Failed, status)
			}
		}
		if fd >= 0 {
			if n, err := unix.Read(pipe[0], make([]byte, 1)); n >= 0 || !errors.Is(err, unix.EAGAIN) {
				t.Fatalf("%d is not what was sent: %d, %v", fd, n, err)
			}
			unix.Close(fd)
		}
		if n, err := unix.Read(pipe[0], make([]byte, 1)); n != 0 || err != nil {
			t.Fatalf("%q with %d: one was left open: %d, %v", packet, len(passed), n, err)
		}
	})
}
