package proc

import (
	"bytes"
	"math"
)

// maxID is the largest process id or descriptor number there can be: both are ints to the kernel.
const maxID = math.MaxInt32

// decimal reads the decimal digits at the start of b; not ok without one, or above 64 bits.
func decimal(b []byte) (value uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		digit := uint64(b[i] - '0')
		if value > (math.MaxUint64-digit)/10 {
			return 0, b, false
		}
		value = value*10 + digit
	}
	return value, b[i:], i > 0
}

// octal is decimal for octal digits.
func octal(b []byte) (value uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '7'; i++ {
		if value>>61 != 0 {
			return 0, b, false
		}
		value = value<<3 | uint64(b[i]-'0')
	}
	return value, b[i:], i > 0
}

// hexadecimal is decimal for hexadecimal digits without a prefix; the kernel prints lower case.
func hexadecimal(b []byte) (value uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b); i++ {
		var digit byte
		switch c := b[i]; {
		case c >= '0' && c <= '9':
			digit = c - '0'
		case c >= 'a' && c <= 'f':
			digit = c - 'a' + 10
		default:
			return value, b[i:], i > 0
		}
		if value>>60 != 0 {
			return 0, b, false
		}
		value = value<<4 | uint64(digit)
	}
	return value, b[i:], i > 0
}

// signed is decimal with an optional minus sign, within the range of a process id.
func signed(b []byte) (value int, rest []byte, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	digits := b
	if negative {
		digits = b[1:]
	}
	n, rest, ok := decimal(digits)
	if !ok || n > maxID {
		return 0, b, false
	}
	if negative {
		return -int(n), rest, true
	}
	return int(n), rest, true
}

// word cuts b at its first blank; rest begins after the blanks.
func word(b []byte) (first, rest []byte) {
	b = bytes.TrimLeft(b, " \t")
	i := bytes.IndexAny(b, " \t\n")
	if i < 0 {
		return b, nil
	}
	return b[:i], bytes.TrimLeft(b[i:], " \t\n")
}

// line cuts b after its first newline, which belongs to neither part.
func line(b []byte) (first, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	return b[:i], b[i+1:]
}
