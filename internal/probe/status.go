package probe

import (
	"errors"
	"strconv"
	"strings"
)

// Statuses is a set of HTTP statuses. The zero value is what passes by default: 200 to 399.
type Statuses struct {
	ranges []statusRange
}

type statusRange struct{ first, last int }

// lowest and highest are what an answer's status can be (RFC 9110, 15).
const (
	lowestStatus  = 100
	highestStatus = 599
)

var errStatus = errors.New("statuses are numbers from 100 to 599 and ranges of them, as in 200,204,300-399")

// ParseStatus reads what --ready-status gives: "200,204,300-399". Blanks around a number are allowed.
func ParseStatus(text string) (Statuses, error) {
	var s Statuses
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, ok := parseStatus(from)
		last := first
		if isRange && ok {
			last, ok = parseStatus(to)
		}
		if !ok || first > last {
			return Statuses{}, errStatus
		}
		s.ranges = append(s.ranges, statusRange{first, last})
	}
	return s, nil
}

func parseStatus(text string) (int, bool) {
	text = strings.Trim(text, " ")
	if len(text) != len("200") || text[0] == '+' {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= lowestStatus && n <= highestStatus
}

// Has tells whether the status is in the set.
func (s Statuses) Has(status int) bool {
	if len(s.ranges) == 0 {
		return status >= 200 && status <= 399
	}
	for _, r := range s.ranges {
		if status >= r.first && status <= r.last {
			return true
		}
	}
	return false
}

// String is the set as ParseStatus reads it.
func (s Statuses) String() string {
	if len(s.ranges) == 0 {
		return "200-399"
	}
	var b strings.Builder
	for i, r := range s.ranges {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(r.first))
		if r.last != r.first {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(r.last))
		}
	}
	return b.String()
}
