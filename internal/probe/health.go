package probe

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// servingStatus is HealthCheckResponse.ServingStatus.
type servingStatus int32

const statusServing servingStatus = 1

func (s servingStatus) String() string {
	switch s {
	case 0:
		return "UNKNOWN" // also a message without the field
	case statusServing:
		return "SERVING"
	case 2:
		return "NOT_SERVING"
	case 3:
		return "SERVICE_UNKNOWN"
	}
	return "serving status " + strconv.Itoa(int(s))
}

// Wire types of protobuf's encoding that are still in use.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// prefixSize is what precedes a gRPC message: a byte that tells whether it is compressed, and its length, big endian.
const prefixSize = 5

var (
	errPrefix     = errors.New("its length is not that of one message")
	errCompressed = errors.New("it is compressed")
	errEncoding   = errors.New("it is no protobuf message")
)

// healthRequest is a HealthCheckRequest with its prefix: field 1, string service.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" { // proto3 leaves out what is empty
		message = append(message, 1<<3|wireBytes)
		message = binary.AppendUvarint(message, uint64(len(service)))
		message = append(message, service...)
	}
	framed := make([]byte, prefixSize, prefixSize+len(message))
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return append(framed, message...)
}

// parseHealth reads a HealthCheckResponse with its prefix: field 1, enum status. Other fields are skipped, and of the
// field the last one counts, as protobuf has it.
func parseHealth(framed []byte) (servingStatus, error) {
	if len(framed) < prefixSize || uint64(binary.BigEndian.Uint32(framed[1:])) != uint64(len(framed)-prefixSize) {
		return 0, errPrefix
	}
	if framed[0] != 0 {
		return 0, errCompressed // nobody asked for it: there was no grpc-accept-encoding
	}
	var status servingStatus
	for b := framed[prefixSize:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 {
			return 0, errEncoding
		}
		b = b[n:]
		value, n := field(b, tag&7)
		if n < 0 {
			return 0, errEncoding
		}
		if tag == 1<<3|wireVarint {
			status = servingStatus(value)
		}
		b = b[n:]
	}
	return status, nil
}

// field measures a field's value; it returns the value of a varint as well. A negative size is no value.
func field(b []byte, wire uint64) (value uint64, size int) {
	switch wire {
	case wireVarint:
		value, size = binary.Uvarint(b)
		if size <= 0 {
			return 0, -1
		}
		return value, size
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	case wireBytes:
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return 0, -1
		}
		size = n + int(length)
	default:
		return 0, -1
	}
	if size > len(b) {
		return 0, -1
	}
	return 0, size
}
