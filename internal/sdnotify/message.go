package sdnotify

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Message is one datagram. What it does not say is zero.
type Message struct {
	PID int // the sender, as the kernel says

	Ready     bool
	Reloading bool
	Stopping  bool
	Barrier   bool // all that was said before it has been taken

	// Status is one line for people, without control characters, at most 500 bytes. Empty with HasStatus takes the last
	// one back.
	Status    string
	HasStatus bool

	MainPID int           // a process id as the sender sees it
	Errno   int           // errno(3)
	Extend  time.Duration // how much longer the current phase may take, from now on; at most a day
}

const (
	// maxStatus bounds a status, in bytes.
	maxStatus = 500
	// maxExtend is as long as anybody is believed to need.
	maxExtend = 24 * time.Hour
	// maxErrno is the kernel's MAX_ERRNO.
	maxErrno = 4095
)

var errNUL = errors.New("there is a NUL byte in it")

// Parse reads the text of a datagram: lines KEY=VALUE. Where a key comes twice the last one counts. It fails only on
// what no client sends: a NUL byte, other than one at the end, which systemd allows as well.
func Parse(text []byte) (Message, error) {
	text = bytes.TrimSuffix(text, []byte{0})
	if bytes.IndexByte(text, 0) >= 0 {
		return Message{}, errNUL
	}
	var m Message
	for line := range bytes.SplitSeq(text, []byte{'\n'}) {
		key, value, ok := bytes.Cut(line, []byte{'='})
		if !ok {
			continue
		}
		switch string(key) {
		case "READY":
			m.Ready = m.Ready || string(value) == "1"
		case "RELOADING":
			m.Reloading = m.Reloading || string(value) == "1"
		case "STOPPING":
			m.Stopping = m.Stopping || string(value) == "1"
		case "BARRIER":
			m.Barrier = m.Barrier || string(value) == "1"
		case "STATUS":
			m.Status, m.HasStatus = printable(value), true
		case "MAINPID":
			m.MainPID = number(value, 1, math.MaxInt32)
		case "ERRNO":
			m.Errno = number(value, 1, maxErrno)
		case "EXTEND_TIMEOUT_USEC":
			m.Extend = microseconds(value)
		}
	}
	return m, nil
}

// number reads a decimal number between the limits; anything else is 0.
func number(value []byte, lowest, highest int) int {
	n, err := strconv.ParseUint(string(value), 10, 32)
	if err != nil || n < uint64(lowest) || n > uint64(highest) {
		return 0
	}
	return int(n)
}

func microseconds(value []byte) time.Duration {
	n, err := strconv.ParseUint(string(value), 10, 64)
	switch {
	case err != nil:
		return 0
	case n > uint64(maxExtend/time.Microsecond):
		return maxExtend
	}
	return time.Duration(n) * time.Microsecond
}

// printable makes a text that may go into a log: what does not print becomes a question mark.
func printable(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\t':
			r = ' '
		case !unicode.IsPrint(r):
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > maxStatus {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// says tells whether there is anything in it for the caller.
func (m Message) says() bool {
	return m.Ready || m.Reloading || m.Stopping || m.HasStatus || m.MainPID != 0 || m.Errno != 0 || m.Extend != 0
}

// onlyStatus tells whether a later status may take its place.
func (m Message) onlyStatus() bool {
	return m == Message{PID: m.PID, Status: m.Status, HasStatus: true}
}

// String is the message for people.
func (m Message) String() string {
	var b strings.Builder
	add := func(ok bool, text string) {
		if ok {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(text)
		}
	}
	add(m.Ready, "READY=1")
	add(m.Reloading, "RELOADING=1")
	add(m.Stopping, "STOPPING=1")
	add(m.Barrier, "BARRIER=1")
	add(m.HasStatus, "STATUS="+strconv.Quote(m.Status))
	add(m.MainPID != 0, "MAINPID="+strconv.Itoa(m.MainPID))
	add(m.Errno != 0, "ERRNO="+strconv.Itoa(m.Errno))
	add(m.Extend != 0, "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(m.Extend.Microseconds(), 10))
	return b.String()
}
