package sdnotify

import (
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Message{
		"":                              {},
		"READY=1":                       {Ready: true},
		"READY=1\n":                     {Ready: true},
		"READY=1\x00":                   {Ready: true},
		"READY=0":                       {},
		"READY=10":                      {},
		"READY":                         {},
		" READY=1":                      {},
		"xREADY=1":                      {},
		"RELOADING=1\nMONOTONIC_USEC=5": {Reloading: true},
		"STOPPING=1\nERRNO=2":           {Stopping: true, Errno: 2},
		"BARRIER=1":                     {Barrier: true},
		"STATUS=":                       {HasStatus: true},
		"STATUS=a=b":                    {Status: "a=b", HasStatus: true},
		"STATUS=a\nSTATUS=b":            {Status: "b", HasStatus: true},
		"STATUS=\ta\x1b[2J\u202e\xff":   {Status: " a?[2J?\ufffd", HasStatus: true},
		"READY=1\nSTATUS=up\nMAINPID=7": {Ready: true, Status: "up", HasStatus: true, MainPID: 7},
		"MAINPID=0":                     {},
		"MAINPID=-1":                    {},
		"MAINPID=4294967296":            {},
		"MAINPID=2147483648":            {},
		"ERRNO=4096":                    {},
		"ERRNO=x":                       {},
		"EXTEND_TIMEOUT_USEC=1500000":   {Extend: 1500 * time.Millisecond},
		"EXTEND_TIMEOUT_USEC=18446744073709551615": {Extend: maxExtend},
		"EXTEND_TIMEOUT_USEC=-1":                   {},
		"WATCHDOG=1\nFDSTORE=1":                    {},
		"STATUS=" + strings.Repeat("\u00e9", 999):  {Status: strings.Repeat("\u00e9", maxStatus/2), HasStatus: true},
	} {
		if got, err := Parse([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"READY=1\x00\x00", "\x00READY=1", "READY=1\x00\nSTATUS=x"} {
		if m, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, m)
		}
	}
}

func TestMessageString(t *testing.T) {
	m := Message{Ready: true, Reloading: true, Stopping: true, Barrier: true,
		Status: "a b", HasStatus: true, MainPID: 7, Errno: 2, Extend: time.Second}
	const want = `READY=1 RELOADING=1 STOPPING=1 BARRIER=1 STATUS="a b" MAINPID=7 ERRNO=2 EXTEND_TIMEOUT_USEC=1000000`
	if m.String() != want {
		t.Errorf("%s; want %s", m, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"READY=1\nSTATUS=up\nMAINPID=7", "EXTEND_TIMEOUT_USEC=15\nERRNO=5", "BARRIER=1",
		"STATUS=\xff\x1b\x00", "\n=\n==",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			if m != (Message{}) {
				t.Errorf("an error, and %v", m)
			}
			return
		}
		unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
		if len(m.Status) > maxStatus || strings.ContainsFunc(m.Status, unprintable) {
			t.Errorf("the status is %q", m.Status)
		}
		if m.MainPID < 0 || m.Errno < 0 || m.Errno > maxErrno || m.Extend < 0 || m.Extend > maxExtend {
			t.Errorf("out of its limits: %+v", m)
		}
		if strings.ContainsAny(m.String(), "\n\x00") {
			t.Errorf("%q is more than one line", m)
		}
	})
}

func TestLimiter(t *testing.T) {
	l := limiter{burst: 3, interval: time.Second}
	now := time.Unix(1000, 0)
	for i, want := range []time.Duration{0, 0, 0, time.Second, 2 * time.Second} {
		if got := l.take(now); got != want {
			t.Errorf("token %d: wait %s, want %s", i, got, want)
		}
	}
	// The bucket is full after as many intervals as tokens were taken, and has no more than burst after a longer time.
	now = now.Add(time.Hour)
	for i, want := range []time.Duration{0, 0, 0, time.Second} {
		if got := l.take(now); got != want {
			t.Errorf("later, token %d: wait %s, want %s", i, got, want)
		}
	}
}
