package sockets

// arm64 has ppoll and pselect6 alone; no call has these numbers.
const (
	sysPoll   = -2
	sysSelect = -3
)
