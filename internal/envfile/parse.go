package envfile

import (
	"bytes"
	"fmt"
	"strings"
)

// Variable is one line KEY=VALUE.
type Variable struct {
	Key, Value string
}

// LineError says what is wrong with a line, and what to write.
type LineError struct {
	Line int // from 1
	Text string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Parse reads the text of a file: the variables in their order, none of them
// twice. The error is a *[LineError].
func Parse(text []byte) ([]Variable, error) {
	var list []Variable
	at := make(map[string]int) // where in list a key is
	number := 0
	for line := range bytes.Lines(text) {
		number++
		v, found, wrong := parseLine(string(line))
		switch i, known := at[v.Key]; {
		case wrong != "":
			return nil, &LineError{Line: number, Text: wrong}
		case !found:
		case known:
			list[i] = v
		default:
			at[v.Key] = len(list)
			list = append(list, v)
		}
	}
	return list, nil
}

// blanks is what may stand around a key and a value; a carriage return is part
// of the line end of some editors.
const blanks = " \t\r\n"

// parseLine reads one line. Blank lines and comments have no variable.
func parseLine(line string) (v Variable, found bool, wrong string) {
	line = strings.Trim(line, blanks)
	if line == "" || line[0] == '#' || line[0] == ';' {
		return v, false, ""
	}
	if strings.IndexByte(line, 0) >= 0 {
		return v, false, "it has a NUL byte, which no variable can hold; remove it"
	}
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return v, false, "there is no = in it; write KEY=VALUE, or # before a comment"
	}
	key = strings.TrimRight(key, blanks)
	if !isKey(key) {
		if strings.HasPrefix(key, "export ") {
			return v, false, "it begins with export, but no shell reads it; write KEY=VALUE"
		}
		return v, false, "what is before the = is no name; use letters, digits and underscores, not a digit first"
	}
	value, wrong = unquote(strings.TrimLeft(value, blanks))
	return Variable{Key: key, Value: value}, wrong == "", wrong
}

func isKey(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// unquote reads a value that has no blanks around it.
func unquote(s string) (value, wrong string) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		if strings.HasSuffix(s, `\`) {
			return "", `it ends with a backslash, but lines are not joined; write the value in one line, or in '...' if the backslash is meant`
		}
		return s, ""
	}
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			if i < len(s)-1 {
				return "", "something follows the closing quote; quote the whole value, or no part of it"
			}
			return b.String(), ""
		case c == '\\' && quote == '"' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Sprintf("the quote %c is not closed; close it in the same line", quote)
}
