package probe

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxQuoted bounds what is quoted of an answer, in bytes.
const maxQuoted = 200

// printable makes one line of at most maxQuoted bytes of a text that somebody else wrote: what does not print (control
// characters, marks that turn the direction of text) becomes a question mark.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\t':
			r = ' '
		case !unicode.IsPrint(r):
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > maxQuoted {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// firstLine is the first line of an answer that says something, to be quoted.
func firstLine(body []byte) string {
	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line != "" {
			return printable(line)
		}
	}
	return ""
}

// lastLine is the last one: where a command says why it failed.
func lastLine(output []byte) string {
	text := strings.TrimSpace(string(output))
	return printable(strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]))
}

// failure is why an attempt failed, in one line; cause may be nil.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// answered is the failure of a service that has answered: what it said, and perhaps more of it.
func answered(what, more string) *failure {
	if more != "" {
		what += ": " + more
	}
	return &failure{text: " answered " + what}
}

// broken is the failure of an attempt that got no answer.
func broken(doing string, err error) *failure {
	return &failure{text: ": " + doing + reason(err), cause: err}
}

// reason says why, without what the failure says already: the operation and the address.
func reason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it closed the connection without a complete answer"
	}
	var operation *net.OpError
	if errors.As(err, &operation) {
		err = operation.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return printable(strings.TrimPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken: "))
}
