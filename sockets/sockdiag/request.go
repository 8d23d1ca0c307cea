package sockdiag

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// tcpRequest builds a struct inet_diag_req for the connections with these local ports.
func tcpRequest(ports map[uint16]struct{}) []byte {
	b := make([]byte, sizeofRequest)
	binary.NativeEndian.PutUint32(b[requestStatesAt:], connectionStates)
	switch n := len(ports); {
	case n == 1:
		// The kernel compares it before anything else.
		for port := range ports {
			binary.BigEndian.PutUint16(b[requestPortAt:], port)
		}
	case n <= maxFilterPorts:
		filter := portFilter(ports)
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(filter)))
		b = binary.NativeEndian.AppendUint16(b, requestBytecode)
		b = append(b, filter...)
	}
	return b
}

// portFilter is a program for inet_diag_bc_run: for each port a comparison, and a jump to the end that it falls through to if
// it holds. To land exactly behind the program is to match, four bytes further not to. (S_EQ would be shorter, but needs Linux 5.9.)
func portFilter(ports map[uint16]struct{}) []byte {
	left := len(ports) * sizeofPortFilter // bytes from the comparison at hand to the end
	b := make([]byte, 0, left)
	for port := range ports {
		no := sizeofPortFilter // the next comparison
		if left == sizeofPortFilter {
			no += sizeofOp // none: behind the end
		}
		b = append(b, opSourceCond, sizeofOp+sizeofCondition)
		b = binary.NativeEndian.AppendUint16(b, uint16(no))
		b = append(b, unix.AF_UNSPEC, 0, 0, 0) // any address: a prefix of no bits
		b = binary.NativeEndian.AppendUint32(b, uint32(port))
		b = append(b, opJump, sizeofOp)
		b = binary.NativeEndian.AppendUint16(b, uint16(left-sizeofOp-sizeofCondition))
		left -= sizeofPortFilter
	}
	return b
}
