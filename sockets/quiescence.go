package sockets

import (
	"bytes"
	"strconv"
	"time"

	"github.com/huptime/huptime/internal/proc"
)

// DatagramQuiet is for how long a generation that was gated on datagram sockets must have done nothing, as a rule.
const DatagramQuiet = 300 * time.Millisecond

// A question that a datagram brought leaves no trace that could be seen from outside, until it is answered. So a generation that was gated on
// datagram sockets is given a moment: until none of its threads has run for as long as Tracker.rest, but no longer than that and quiescenceLimit. A program
// that has to ask others first, as a resolver does, sleeps meanwhile: so it is as long as a question around the world takes. Where it asks by a
// socket that it makes for that, this can be seen: see questions.
const (
	quiescenceLimit = 3 * time.Second
	// questionLimit: a socket that is open for longer is no question.
	questionLimit = 10 * time.Second
)

// quiescence is how long a generation has done nothing.
type quiescence struct {
	began    time.Time // when it was first looked at
	since    time.Time // when it was first seen with these switches
	switches uint64
}

// quiet tells whether the generation has nothing in hand, as far as can be told. It is always so without datagram sockets.
func (d *drain) quiet() bool {
	if len(d.talks) == 0 && (d.g == nil || len(d.g.datagrams()) == 0) {
		return true
	}
	now, switches := time.Now(), contextSwitches(d.t.pids())
	c := &d.quiescence
	if c.began.IsZero() {
		c.began = now
	}
	if c.since.IsZero() || switches != c.switches {
		c.since, c.switches = now, switches
	}
	if now.Sub(c.since) < d.t.rest && now.Sub(c.began) < quiescenceLimit+d.t.rest {
		return false
	}
	return now.Sub(c.began) >= questionLimit || len(d.t.questions(d.diag, d.t.pids(), d.g, now.Sub(c.began) < quiescenceLimit)) == 0
}

// contextSwitches counts how often the threads of the processes have been taken off a processor, by themselves or not: it grows whenever one of
// them runs. Those that can't be read count 0.
func contextSwitches(pids []int) uint64 {
	var sum uint64
	for _, pid := range pids {
		tids, err := proc.Threads(pid)
		if err != nil {
			continue
		}
		for _, tid := range tids {
			status, err := proc.ReadStatus(tid)
			if err != nil {
				continue
			}
			sum += switchesIn(status)
		}
	}
	return sum
}

// switchesIn adds up voluntary_ctxt_switches and nonvoluntary_ctxt_switches of a status file, proc_pid_status(5).
func switchesIn(status []byte) uint64 {
	var sum uint64
	for line := range bytes.Lines(status) {
		if key, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.HasSuffix(key, []byte("voluntary_ctxt_switches")) {
			if n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64); err == nil {
				sum += n
			}
		}
	}
	return sum
}
