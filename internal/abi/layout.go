package abi

import "encoding/binary"

// EpollEvent is struct epoll_event: packed on x86, in both ABIs, and nowhere else (include/uapi/linux/eventpoll.h).
func (a ABI) EpollEvent(events uint32, data uint64) []byte {
	at := 8
	if a == AMD64 || a == I386 {
		at = 4
	}
	b := make([]byte, at+8)
	binary.NativeEndian.PutUint32(b, events)
	binary.NativeEndian.PutUint64(b[at:], data)
	return b
}

// Rights is the argument of a sendmsg(2) that sends one byte and one descriptor (unix(7), SCM_RIGHTS): a struct
// msghdr, and behind it what it points to, for a place in memory at addr. See include/linux/socket.h for the layout, and
// include/net/compat.h for that of 32-bit ABIs.
func (a ABI) Rights(addr uint64, fd int) []byte {
	word := 4
	if a.Wide() {
		word = 8
	}
	// A msghdr is seven words: name, its length, iov, their number, control, its length, flags. An iovec is two. A
	// control message is a header, that is a word and two ints, and then the data, an int, padded to a word.
	iovAt := 7 * word
	controlAt := iovAt + 2*word
	headerSize := word + 8
	dataAt := controlAt + (headerSize+4+word-1)/word*word
	b := make([]byte, dataAt+1)
	put := func(at int, value uint64) {
		if word == 8 {
			binary.NativeEndian.PutUint64(b[at:], value)
		} else {
			binary.NativeEndian.PutUint32(b[at:], uint32(value))
		}
	}
	put(2*word, addr+uint64(iovAt))
	put(3*word, 1)
	put(4*word, addr+uint64(controlAt))
	put(5*word, uint64(dataAt-controlAt))
	put(iovAt, addr+uint64(dataAt))
	put(iovAt+word, 1)
	put(controlAt, uint64(headerSize+4)) // CMSG_LEN(4)
	const solSocket, scmRights = 1, 1    // include/linux/socket.h, asm-generic/socket.h
	binary.NativeEndian.PutUint32(b[controlAt+word:], solSocket)
	binary.NativeEndian.PutUint32(b[controlAt+word+4:], scmRights)
	binary.NativeEndian.PutUint32(b[controlAt+headerSize:], uint32(fd))
	return b
}

// Words reads an array of longs; what is left behind the last whole one is passed over.
func (a ABI) Words(b []byte) []uint64 {
	var words []uint64
	if a.Wide() {
		for ; len(b) >= 8; b = b[8:] {
			words = append(words, binary.NativeEndian.Uint64(b))
		}
		return words
	}
	for ; len(b) >= 4; b = b[4:] {
		words = append(words, uint64(binary.NativeEndian.Uint32(b)))
	}
	return words
}
