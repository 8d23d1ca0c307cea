package sockets

import "golang.org/x/sys/unix"

// probeOrSkip skips what follows, a program of that many instructions, for packets that are no probe's: those
// whose source address is not the destination's, or that come from none of the ports. Programs of a group see the
// network header at SKF_NET_OFF (include/uapi/linux/filter.h). A probe's has no options.
func probeOrSkip(ports []uint16, skip int) []unix.SockFilter {
	const (
		header = 0xfff00000 // SKF_NET_OFF
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		half   = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		octet  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		toX    = unix.BPF_MISC | unix.BPF_TAX
		equalX = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jump   = unix.BPF_JMP | unix.BPF_JA
	)
	// Both sections go to their last instruction where it is no probe, and to the one before where it is.
	section := func(source, target, words, port uint32) (list []unix.SockFilter) {
		for w := uint32(0); w < 4*words; w += 4 {
			list = append(list, unix.SockFilter{Code: load, K: header + source + w}, unix.SockFilter{Code: toX},
				unix.SockFilter{Code: load, K: header + target + w}, unix.SockFilter{Code: equalX})
		}
		list = append(list, unix.SockFilter{Code: half, K: header + port})
		for _, p := range ports {
			list = append(list, unix.SockFilter{Code: equal, K: uint32(p)})
		}
		no := len(list) + 1
		for i := range list {
			switch list[i].Code {
			case equalX:
				list[i].Jf = uint8(no - i - 1)
			case equal:
				list[i].Jt = uint8(no - 1 - i - 1)
			}
		}
		list[no-2].Jf = 1 // the last port
		return append(list, unix.SockFilter{Code: jump}, unix.SockFilter{Code: jump, K: uint32(skip)})
	}
	v4, v6 := section(12, 16, 1, 20), section(8, 24, 4, 40)
	v4[len(v4)-2].K = uint32(1 + len(v6)) // behind all of this
	v4[len(v4)-1].K += uint32(len(v6))
	v6[len(v6)-2].K = 1
	program := []unix.SockFilter{
		{Code: octet, K: header},
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
		{Code: equal, K: 4, Jf: 1},
		{Code: jump, K: 1},
		{Code: jump, K: uint32(len(v4))},
	}
	return append(append(program, v4...), v6...)
}
